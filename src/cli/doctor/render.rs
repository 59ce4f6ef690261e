//! The report as text: JSON for programs; for people our identity, the fleet's Redis, a table a
//! domain, then what was found.
//!
//! Nothing is wider than the terminal but names and what was found; where columns do not fit, the
//! times of the connection go.

mod domains;
mod layout;
mod redis;

use std::fmt::Write as _;

use owo_colors::OwoColorize as _;

use super::findings::FindingLevel;
use super::report::{DoctorReport, IdentityReport};
use layout::{draw_findings, write_folded};

/// The width where there is no terminal, and the least that is drawn for.
const DEFAULT_WIDTH: usize = 80;
const WIDTH_MIN: usize = 40;

/// The columns of the terminal; `COLUMNS` goes before.
pub(super) fn width() -> usize {
    let configured = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let measured = || terminal_size::terminal_size().map(|(columns, _)| usize::from(columns.0));
    configured.or_else(measured).unwrap_or(DEFAULT_WIDTH).max(WIDTH_MIN)
}

/// The report as text; colours are stripped by the writer where they do not belong.
pub(super) fn text(report: &DoctorReport, width: usize) -> String {
    let mut text = String::new();
    if let Some(own) = &report.identity {
        draw_identity(&mut text, own, width);
    }
    if let Some(redis) = &report.redis {
        redis::draw_redis(&mut text, redis, width);
    }
    for domain in &report.domains {
        domains::draw_domain(&mut text, domain, report.asked, width);
    }
    let _ = writeln!(text, "\n{}", summary(report));
    if !report.asked {
        let hint = "no key was asked for, so validators and the latency of answers are not known";
        let _ = writeln!(text, "{hint}\n{} `--key KEY` asks every source for it", "hint:".cyan());
    }
    // Without an identity the first domain opens the page.
    text.trim_start().to_owned()
}

fn draw_identity(text: &mut String, identity: &IdentityReport, width: usize) {
    let names =
        if identity.names.is_empty() { "no name".to_owned() } else { identity.names.join(", ") };
    let _ = writeln!(text, "{} {names}", "our identity".bold());
    let client = if identity.client_auth { "usable as a client" } else { "not usable as a client" };
    let until = format!("valid until {}", identity.not_after);
    write_folded(text, [format!("issued by {}", identity.issuer), until, client.to_owned()], width);
    draw_findings(text, identity.findings.iter().map(|finding| (None, finding)).collect());
}

fn summary(report: &DoctorReport) -> String {
    let sources: Vec<_> = report.domains.iter().flat_map(|domain| &domain.sources).collect();
    let count = |levels: &[Option<FindingLevel>]| {
        sources.iter().filter(|source| levels.contains(&source.level())).count()
    };
    let failed = count(&[Some(FindingLevel::Error)]);
    let warned = count(&[Some(FindingLevel::Warning)]);
    let plural = if sources.len() == 1 { "source" } else { "sources" };
    let mut words = vec![format!("{} {plural}", sources.len())];
    words.push(format!("{} well", count(&[None, Some(FindingLevel::Note)])));
    words.extend((warned > 0).then(|| format!("{warned} with warnings")));
    words.extend((failed > 0).then(|| format!("{failed} with errors")));
    words.join(", ")
}

/// The report as JSON.
pub(super) fn json(report: &DoctorReport) -> String {
    serde_json::to_string_pretty(report).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::findings::Finding;
    use super::super::probe::{AnswerFacts, EtagStrength, WithoutCertificate};
    use super::super::report::{CertificateReport, ConnectionReport, DomainReport, SourceReport};
    use super::*;

    fn source(name: &str, findings: Vec<Finding>) -> SourceReport {
        let server = format!("spiffe://shop.example/ns/shop/sa/{name}");
        let presented = CertificateReport {
            names: vec![server.clone()],
            issuer: "CN=shop".to_owned(),
            not_before: String::new(),
            not_after: String::new(),
            fingerprint: String::new(),
            ends: SystemTime::now() + Duration::from_hours(29 * 24 + 1),
        };
        let connection = ConnectionReport {
            certificate: Some(presented),
            protocol: Some("TLS 1.3".to_owned()),
            key_exchange: Some("X25519MLKEM768".to_owned()),
            asks_for_certificate: Some(true),
            without_certificate: Some(WithoutCertificate::Refused),
            connect_ms: 0.31,
            handshake_ms: Some(1.94),
        };
        let answer = AnswerFacts {
            status: 200,
            http: "HTTP/2",
            content_type: None,
            etag: EtagStrength::Strong,
            last_modified: false,
            not_modified: Some(true),
            no_store: false,
            aged: false,
            next_page: false,
            body_bytes: 2,
            first_ms: 11.0,
            warm_ms: Some(2.25),
        };
        let origin = format!("https://{name}.shop:8443");
        SourceReport {
            name: name.to_owned(),
            origin,
            server,
            mutual: "proven",
            connection: Some(connection),
            answer: Some(answer),
            database: None,
            rows: None,
            findings,
        }
    }

    fn drawn(width: usize) -> String {
        let slow = Finding::error("too-slow", "takes 3 s").expected("less").hint("`timeout`");
        let silent =
            SourceReport { connection: None, answer: None, ..source("nobody", vec![slow]) };
        let weak = Finding::note("weak-validator", "its `ETag` is weak");
        let domain = DomainReport {
            name: "customer".to_owned(),
            file: "customer.yaml".to_owned(),
            atomicity: "snapshot",
            findings: vec![],
            sources: vec![
                source("profile", vec![weak]),
                source("orders", vec![Finding::warning("cached", "is old")]),
                silent,
            ],
        };
        anstream::adapter::strip_str(&text(
            &DoctorReport::new(true, None, None, vec![domain]),
            width,
        ))
        .to_string()
    }

    #[test]
    fn the_table_takes_what_width_there_is() {
        insta::assert_snapshot!("wide", drawn(120));
        insta::assert_snapshot!("usual", drawn(76));
        insta::assert_snapshot!("narrow", drawn(56));
    }

    #[test]
    fn nothing_but_what_was_found_is_wider_than_the_terminal() {
        for width in [56, 76, 80, 120] {
            let too_wide: Vec<_> = drawn(width)
                .lines()
                .filter(|line| line.chars().count() > width)
                .map(str::to_owned)
                .collect();
            assert_eq!(too_wide, Vec::<String>::new(), "{width}");
        }
    }
}
