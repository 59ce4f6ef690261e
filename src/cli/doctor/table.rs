//! The report for people: our identity, the fleet's Redis, a table a domain with two lines or three
//! a source, then what was found.
//!
//! Nothing is wider than the terminal but names and what was found; where columns do not fit, the
//! times of the connection go.

use std::fmt::Write as _;
use std::time::SystemTime;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use owo_colors::OwoColorize as _;

use super::answer_probe::{self, EtagStrength};
use super::connection_probe::{self, WithoutCertificate};
use super::finding::{Finding, FindingLevel};
use super::identity_report::IdentityReport;
use super::redis;
use super::report::{DoctorReport, DomainReport, SourceReport, span};

/// The width where there is no terminal, and the least that is drawn for.
const DEFAULT_WIDTH: usize = 80;
const WIDTH_MIN: usize = 40;
/// How far the lines below a source are indented.
const INDENT: &str = "    ";

/// The columns of the terminal; `COLUMNS` goes before.
pub(super) fn width() -> usize {
    let configured = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let measured = || terminal_size::terminal_size().map(|(columns, _)| usize::from(columns.0));
    configured.or_else(measured).unwrap_or(DEFAULT_WIDTH).max(WIDTH_MIN)
}

/// The report as text; colours are stripped by the writer where they do not belong.
pub(super) fn draw(report: &DoctorReport, width: usize) -> String {
    let mut text = String::new();
    if let Some(own) = &report.identity {
        draw_identity(&mut text, own, width);
    }
    if let Some(redis) = &report.redis {
        redis::draw::draw(&mut text, redis, width);
    }
    for domain in &report.domains {
        draw_domain(&mut text, domain, report.asked, width);
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

fn draw_domain(text: &mut String, domain: &DomainReport, asked: bool, width: usize) {
    let _ = writeln!(text, "\n{} {}, {}\n", domain.name.bold(), domain.file, domain.atomicity);
    let table = [Columns::All, Columns::NoConnection, Columns::OnlyNeeded]
        .map(|columns| table(domain, asked, columns));
    let fits = |table: &&String| table.lines().all(|line| line.chars().count() <= width);
    let Some(table) = table.iter().find(fits).or(table.last()) else { return };
    let mut lines = table.lines();
    let _ = writeln!(text, "{}", lines.next().unwrap_or_default().dimmed());
    for (line, source) in lines.zip(&domain.sources) {
        draw_source(text, line, source, width);
    }
    let of_sources = domain.sources.iter().flat_map(|source| {
        let name = Some(source.name.as_str());
        source.findings.iter().map(move |finding| (name, finding))
    });
    let findings: Vec<_> =
        domain.findings.iter().map(|finding| (None, finding)).chain(of_sources).collect();
    if !findings.is_empty() {
        text.push('\n');
        draw_findings(text, findings);
    }
}

/// What stands before something of which the worst is this.
pub(super) fn level_sign(level: Option<FindingLevel>) -> String {
    match level {
        Some(FindingLevel::Error) => "✗".red().bold().to_string(),
        Some(FindingLevel::Warning) => "!".yellow().bold().to_string(),
        _ => "✓".green().to_string(),
    }
}

fn draw_source(text: &mut String, line: &str, source: &SourceReport, width: usize) {
    let rest = line.trim_start_matches(['✗', '!', '✓']);
    let _ = writeln!(text, "{}{rest}", level_sign(source.level()));
    let mut first = vec![source.origin.clone()];
    let mut second = Vec::new();
    if let Some(connection) = &source.connection {
        second.extend(connection_words(connection, source.answer.as_ref()));
        first.extend(
            connection
                .certificate
                .as_ref()
                .map(|certificate| certificate_identity(certificate, &source.server)),
        );
    }
    write_folded(text, first, width);
    write_folded(text, second, width);
}

/// The name that was expected where the certificate carries it, else those that it carries.
pub(super) fn certificate_identity(
    certificate: &connection_probe::ServerCertificate,
    expected: &str,
) -> String {
    match certificate.names.iter().find(|name| name.as_str() == expected) {
        Some(name) => format!("is {name}"),
        None if certificate.names.is_empty() => "has no name".to_owned(),
        None => format!(
            "is {}",
            certificate.names.iter().take(3).cloned().collect::<Vec<_>>().join(" or ")
        ),
    }
}

fn connection_words(
    connection: &connection_probe::ConnectionFacts,
    answer: Option<&answer_probe::AnswerFacts>,
) -> Vec<String> {
    let mut words: Vec<String> =
        [&connection.protocol, &connection.key_exchange].into_iter().flatten().cloned().collect();
    words.extend(answer.map(|answer| answer.http.to_owned()));
    words.extend(
        connection
            .certificate
            .as_ref()
            .map(|certificate| format!("issued by {}", certificate.issuer)),
    );
    words
}

/// Which columns there is room for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Columns {
    All,
    NoConnection,
    OnlyNeeded,
}

fn table(domain: &DomainReport, asked: bool, columns: Columns) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let mut header = vec!["  SOURCE", "CLIENT CERT", "EXPIRES IN"];
    if columns == Columns::All {
        header.extend(["CONNECT", "TLS"]);
    }
    if asked && columns != Columns::OnlyNeeded {
        header.extend(["FIRST", "WARM"]);
    }
    if asked {
        header.push("VALIDATOR");
    }
    table.set_header(header.clone());
    for source in &domain.sources {
        table.add_row(cells(source, &header));
    }
    for (at, name) in header.iter().enumerate() {
        if let Some(column) = table.column_mut(at) {
            column.set_padding((0, 2));
            if ["CONNECT", "TLS", "FIRST", "WARM"].contains(name) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.trim_fmt()
}

fn cells(source: &SourceReport, header: &[&str]) -> Vec<String> {
    let (connection, answer) = (source.connection.as_ref(), source.answer.as_ref());
    let time = |ms: Option<f64>| ms.map(|ms| format!("{ms:.1} ms"));
    let cell = |column: &&str| match *column {
        // The mark stands for itself while widths are measured; its colour comes later.
        "  SOURCE" => Some(format!("✓ {}", source.name)),
        "CLIENT CERT" => connection.and_then(certificate_demand).map(str::to_owned),
        "EXPIRES IN" => connection.and_then(|it| it.certificate.as_ref()).map(expires_in),
        "CONNECT" => time(connection.map(|it| it.connect_ms)),
        "TLS" => time(connection.and_then(|it| it.handshake_ms)),
        "FIRST" => time(answer.map(|it| it.first_ms)),
        "WARM" => time(answer.and_then(|it| it.warm_ms)),
        _ => answer.map(validator_text),
    };
    header.iter().map(|column| cell(column).unwrap_or_else(|| "-".to_owned())).collect()
}

fn certificate_demand(connection: &connection_probe::ConnectionFacts) -> Option<&'static str> {
    match (connection.asks_for_certificate?, connection.without_certificate) {
        (false, _) => Some("not asked"),
        (true, Some(WithoutCertificate::Accepted)) => Some("optional"),
        (true, Some(WithoutCertificate::Refused | WithoutCertificate::Closed)) => Some("demanded"),
        (true, None) => Some("asked"),
    }
}

pub(super) fn expires_in(certificate: &connection_probe::ServerCertificate) -> String {
    certificate.ends.duration_since(SystemTime::now()).map_or_else(|_| "expired".to_owned(), span)
}

fn validator_text(answer: &answer_probe::AnswerFacts) -> String {
    match (answer.etag, answer.not_modified) {
        (EtagStrength::Strong, Some(true)) => "strong, 304",
        (EtagStrength::Strong, Some(false)) => "strong, no 304",
        (EtagStrength::Strong, None) => "strong",
        (EtagStrength::Weak, _) => "weak",
        (EtagStrength::None, _) if answer.last_modified => "date only",
        (EtagStrength::None, _) => "none",
    }
    .to_owned()
}

/// The worst first.
pub(super) fn draw_findings(text: &mut String, mut findings: Vec<(Option<&str>, &Finding)>) {
    findings.sort_by_key(|(_, finding)| finding.level);
    for (source, finding) in findings {
        let level = match finding.level {
            FindingLevel::Error => "error:".red().bold().to_string(),
            FindingLevel::Warning => "warning:".yellow().bold().to_string(),
            FindingLevel::Note => "note:".dimmed().to_string(),
        };
        let source = source.map(|source| format!("{source}: ")).unwrap_or_default();
        let expected =
            finding.expected.as_ref().map(|it| format!("; expected {it}")).unwrap_or_default();
        let _ = writeln!(text, "{level} {source}{}{expected}", finding.met);
        if let Some(hint) = &finding.hint {
            let _ = writeln!(text, "  {} {hint}", "hint:".cyan());
        }
    }
}

fn summary(report: &DoctorReport) -> String {
    let sources: Vec<_> = report.domains.iter().flat_map(|domain| &domain.sources).collect();
    let count = |levels: &[Option<FindingLevel>]| {
        sources.iter().filter(|source| levels.contains(&source.level())).count()
    };
    let (failed, warned) =
        (count(&[Some(FindingLevel::Error)]), count(&[Some(FindingLevel::Warning)]));
    let plural = if sources.len() == 1 { "source" } else { "sources" };
    let mut words = vec![format!("{} {plural}", sources.len())];
    words.push(format!("{} well", count(&[None, Some(FindingLevel::Note)])));
    words.extend((warned > 0).then(|| format!("{warned} with warnings")));
    words.extend((failed > 0).then(|| format!("{failed} with errors")));
    words.join(", ")
}

/// Writes `words` with commas between them, indented, on as few lines as fit.
pub(super) fn write_folded(
    text: &mut String,
    words: impl IntoIterator<Item = String>,
    width: usize,
) {
    let mut line = String::new();
    for word in words.into_iter().filter(|word| !word.is_empty()) {
        if line.is_empty() {
            line = word;
        } else if INDENT.len() + line.chars().count() + 2 + word.chars().count() < width {
            line = format!("{line}, {word}");
        } else {
            let _ = writeln!(text, "{INDENT}{line},");
            line = word;
        }
    }
    if !line.is_empty() {
        let _ = writeln!(text, "{INDENT}{line}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn source(name: &str, findings: Vec<Finding>) -> SourceReport {
        let server = format!("spiffe://shop.example/ns/shop/sa/{name}");
        let presented = connection_probe::ServerCertificate {
            names: vec![server.clone()],
            issuer: "CN=shop".to_owned(),
            not_before: String::new(),
            not_after: String::new(),
            fingerprint: String::new(),
            ends: SystemTime::now() + Duration::from_hours(29 * 24 + 1),
        };
        let connection = connection_probe::ConnectionFacts {
            certificate: Some(presented),
            protocol: Some("TLS 1.3".to_owned()),
            key_exchange: Some("X25519MLKEM768".to_owned()),
            asks_for_certificate: Some(true),
            without_certificate: Some(WithoutCertificate::Refused),
            connect_ms: 0.31,
            handshake_ms: Some(1.94),
        };
        let answer = answer_probe::AnswerFacts {
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
            connection: Some(connection),
            answer: Some(answer),
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
        anstream::adapter::strip_str(&draw(
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
