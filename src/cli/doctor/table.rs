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

use super::answer::{self, Tag};
use super::connection::{self, Without};
use super::finding::{Finding, Level};
use super::own::Own;
use super::redis;
use super::report::{DomainReport, Report, SourceReport, span};

/// The width where there is no terminal, and the least that is drawn for.
const USUAL: usize = 80;
const LEAST: usize = 40;
/// How far the lines below a source are indented.
const INDENT: &str = "    ";

/// The columns of the terminal; `COLUMNS` goes before.
pub(super) fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let met = || terminal_size::terminal_size().map(|(columns, _)| usize::from(columns.0));
    said.or_else(met).unwrap_or(USUAL).max(LEAST)
}

/// The report as text; colours are stripped by the writer where they do not belong.
pub(super) fn draw(report: &Report, width: usize) -> String {
    let mut text = String::new();
    if let Some(own) = &report.identity {
        draw_own(&mut text, own, width);
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

fn draw_own(text: &mut String, own: &Own, width: usize) {
    let names = if own.names.is_empty() { "no name".to_owned() } else { own.names.join(", ") };
    let _ = writeln!(text, "{} {names}", "our identity".bold());
    let client = if own.client_auth { "usable as a client" } else { "not usable as a client" };
    let until = format!("valid until {}", own.not_after);
    fold(text, [format!("issued by {}", own.issuer), until, client.to_owned()], width);
    draw_findings(text, own.findings.iter().map(|finding| (None, finding)).collect());
}

fn draw_domain(text: &mut String, domain: &DomainReport, asked: bool, width: usize) {
    let _ = writeln!(text, "\n{} {}, {}\n", domain.name.bold(), domain.file, domain.atomicity);
    let table = [Columns::All, Columns::NoConnection, Columns::Fewest]
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
pub(super) fn mark(level: Option<Level>) -> String {
    match level {
        Some(Level::Error) => "✗".red().bold().to_string(),
        Some(Level::Warning) => "!".yellow().bold().to_string(),
        _ => "✓".green().to_string(),
    }
}

fn draw_source(text: &mut String, line: &str, source: &SourceReport, width: usize) {
    let rest = line.trim_start_matches(['✗', '!', '✓']);
    let _ = writeln!(text, "{}{rest}", mark(source.level()));
    let mut first = vec![source.origin.clone()];
    let mut second = Vec::new();
    if let Some(connection) = &source.connection {
        second.extend(how(connection, source.answer.as_ref()));
        first.extend(
            connection.certificate.as_ref().map(|certificate| who(certificate, &source.server)),
        );
    }
    fold(text, first, width);
    fold(text, second, width);
}

/// The name that was expected where the certificate carries it, else those that it carries.
pub(super) fn who(certificate: &connection::Presented, expected: &str) -> String {
    match certificate.names.iter().find(|name| name.as_str() == expected) {
        Some(name) => format!("is {name}"),
        None if certificate.names.is_empty() => "has no name".to_owned(),
        None => format!(
            "is {}",
            certificate.names.iter().take(3).cloned().collect::<Vec<_>>().join(" or ")
        ),
    }
}

fn how(connection: &connection::Facts, answer: Option<&answer::Facts>) -> Vec<String> {
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
    Fewest,
}

fn table(domain: &DomainReport, asked: bool, columns: Columns) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let mut header = vec!["  SOURCE", "CLIENT CERT", "EXPIRES IN"];
    if columns == Columns::All {
        header.extend(["CONNECT", "TLS"]);
    }
    if asked && columns != Columns::Fewest {
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
        "CLIENT CERT" => connection.and_then(demand).map(str::to_owned),
        "EXPIRES IN" => connection.and_then(|it| it.certificate.as_ref()).map(expires),
        "CONNECT" => time(connection.map(|it| it.connect_ms)),
        "TLS" => time(connection.and_then(|it| it.handshake_ms)),
        "FIRST" => time(answer.map(|it| it.first_ms)),
        "WARM" => time(answer.and_then(|it| it.warm_ms)),
        _ => answer.map(validator),
    };
    header.iter().map(|column| cell(column).unwrap_or_else(|| "-".to_owned())).collect()
}

fn demand(connection: &connection::Facts) -> Option<&'static str> {
    match (connection.asks_for_certificate?, connection.without_certificate) {
        (false, _) => Some("not asked"),
        (true, Some(Without::Accepted)) => Some("optional"),
        (true, Some(Without::Refused | Without::Closed)) => Some("demanded"),
        (true, None) => Some("asked"),
    }
}

pub(super) fn expires(certificate: &connection::Presented) -> String {
    certificate.ends.duration_since(SystemTime::now()).map_or_else(|_| "expired".to_owned(), span)
}

fn validator(answer: &answer::Facts) -> String {
    match (answer.etag, answer.not_modified) {
        (Tag::Strong, Some(true)) => "strong, 304",
        (Tag::Strong, Some(false)) => "strong, no 304",
        (Tag::Strong, None) => "strong",
        (Tag::Weak, _) => "weak",
        (Tag::None, _) if answer.last_modified => "date only",
        (Tag::None, _) => "none",
    }
    .to_owned()
}

/// The worst first.
pub(super) fn draw_findings(text: &mut String, mut findings: Vec<(Option<&str>, &Finding)>) {
    findings.sort_by_key(|(_, finding)| finding.level);
    for (source, finding) in findings {
        let level = match finding.level {
            Level::Error => "error:".red().bold().to_string(),
            Level::Warning => "warning:".yellow().bold().to_string(),
            Level::Note => "note:".dimmed().to_string(),
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

fn summary(report: &Report) -> String {
    let sources: Vec<_> = report.domains.iter().flat_map(|domain| &domain.sources).collect();
    let count = |wanted: &[Option<Level>]| {
        sources.iter().filter(|source| wanted.contains(&source.level())).count()
    };
    let (failed, warned) = (count(&[Some(Level::Error)]), count(&[Some(Level::Warning)]));
    let plural = if sources.len() == 1 { "source" } else { "sources" };
    let mut words = vec![format!("{} {plural}", sources.len())];
    words.push(format!("{} well", count(&[None, Some(Level::Note)])));
    words.extend((warned > 0).then(|| format!("{warned} with warnings")));
    words.extend((failed > 0).then(|| format!("{failed} with errors")));
    words.join(", ")
}

/// Writes `words` with commas between them, indented, on as few lines as fit.
pub(super) fn fold(text: &mut String, words: impl IntoIterator<Item = String>, width: usize) {
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
        let presented = connection::Presented {
            names: vec![server.clone()],
            issuer: "CN=shop".to_owned(),
            not_before: String::new(),
            not_after: String::new(),
            fingerprint: String::new(),
            ends: SystemTime::now() + Duration::from_hours(29 * 24 + 1),
        };
        let connection = connection::Facts {
            certificate: Some(presented),
            protocol: Some("TLS 1.3".to_owned()),
            key_exchange: Some("X25519MLKEM768".to_owned()),
            asks_for_certificate: Some(true),
            without_certificate: Some(Without::Refused),
            connect_ms: 0.31,
            handshake_ms: Some(1.94),
        };
        let answer = answer::Facts {
            status: 200,
            http: "HTTP/2",
            content_type: None,
            etag: Tag::Strong,
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
        anstream::adapter::strip_str(&draw(&Report::new(true, None, None, vec![domain]), width))
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
