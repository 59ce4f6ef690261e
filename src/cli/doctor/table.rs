//! The report for people: our identity, a table a domain with two lines or three a source, then what was found.
//!
//! Nothing is wider than the terminal but names and what was found; where columns do not fit, the times of the connection go.

use std::fmt::Write as _;
use std::time::SystemTime;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use owo_colors::OwoColorize as _;

use super::answer::{self, Tag};
use super::connection::{self, Without};
use super::finding::{Finding, Level};
use super::own::Own;
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
    for domain in &report.domains {
        draw_domain(&mut text, domain, report.asked, width);
    }
    let _ = writeln!(text, "\n{}", summary(report));
    if !report.asked {
        let hint = "no key was asked for, so validators and the latency of answers are not known";
        let _ = writeln!(text, "{hint}\n{} `--key KEY` asks every source for it", "hint:".cyan());
    }
    text
}

fn draw_own(text: &mut String, own: &Own, width: usize) {
    let names = if own.names.is_empty() { "no name".to_owned() } else { own.names.join(", ") };
    let _ = writeln!(text, "{} {names}", "our identity".bold());
    let client = if own.client_auth { "usable as a client" } else { "not usable as a client" };
    let until = format!("valid until {}", own.not_after);
    fold(text, [format!("issued by {}", own.issuer), until, client.to_owned()], width);
    draw_findings(text, None, &own.findings);
}

fn draw_domain(text: &mut String, domain: &DomainReport, asked: bool, width: usize) {
    let _ = writeln!(text, "\n{} {}, {}\n", domain.name.bold(), domain.file, domain.atomicity);
    let table = [Columns::All, Columns::NoConnection, Columns::Fewest].map(|columns| table(domain, asked, columns));
    let fits = |table: &&String| table.lines().all(|line| line.chars().count() <= width);
    let Some(table) = table.iter().find(fits).or(table.last()) else { return };
    let mut lines = table.lines();
    let _ = writeln!(text, "{}", lines.next().unwrap_or_default().dimmed());
    for (line, source) in lines.zip(&domain.sources) {
        draw_source(text, line, source, width);
    }
    if domain.findings.is_empty() && domain.sources.iter().all(|source| source.findings.is_empty()) {
        return;
    }
    text.push('\n');
    draw_findings(text, None, &domain.findings);
    for source in &domain.sources {
        draw_findings(text, Some(&source.name), &source.findings);
    }
}

fn draw_source(text: &mut String, line: &str, source: &SourceReport, width: usize) {
    let mark = match source.level() {
        Some(Level::Error) => "✗".red().bold().to_string(),
        Some(Level::Warning) => "!".yellow().bold().to_string(),
        _ => "✓".green().to_string(),
    };
    let rest = line.trim_start_matches(['✗', '!', '✓']);
    let _ = writeln!(text, "{mark}{rest}");
    let mut first = vec![source.origin.clone()];
    let mut second = Vec::new();
    if let Some(connection) = &source.connection {
        second.extend(how(connection, source.answer.as_ref()));
        first.extend(connection.certificate.as_ref().map(|certificate| who(certificate, &source.server)));
    }
    fold(text, first, width);
    fold(text, second, width);
}

/// The name that was expected where the certificate carries it, else those that it carries.
fn who(certificate: &connection::Presented, expected: &str) -> String {
    match certificate.names.iter().find(|name| name.as_str() == expected) {
        Some(name) => format!("is {name}"),
        None if certificate.names.is_empty() => "has no name".to_owned(),
        None => format!("is {}", certificate.names.iter().take(3).cloned().collect::<Vec<_>>().join(" or ")),
    }
}

fn how(connection: &connection::Facts, answer: Option<&answer::Facts>) -> Vec<String> {
    let mut words: Vec<String> =
        [&connection.protocol, &connection.key_exchange].into_iter().flatten().cloned().collect();
    words.extend(answer.map(|answer| answer.http.to_owned()));
    words.extend(connection.certificate.as_ref().map(|certificate| format!("issued by {}", certificate.issuer)));
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

fn expires(certificate: &connection::Presented) -> String {
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

fn draw_findings(text: &mut String, source: Option<&str>, findings: &[Finding]) {
    let mut findings: Vec<_> = findings.iter().collect();
    findings.sort_by_key(|finding| finding.level);
    for finding in findings {
        let level = match finding.level {
            Level::Error => "error:".red().bold().to_string(),
            Level::Warning => "warning:".yellow().bold().to_string(),
            Level::Note => "note:".dimmed().to_string(),
        };
        let source = source.map(|source| format!("{source}: ")).unwrap_or_default();
        let expected = finding.expected.as_ref().map(|it| format!("; expected {it}")).unwrap_or_default();
        let _ = writeln!(text, "{level} {source}{}{expected}", finding.met);
        if let Some(hint) = &finding.hint {
            let _ = writeln!(text, "  {} {hint}", "hint:".cyan());
        }
    }
}

fn summary(report: &Report) -> String {
    let sources: Vec<_> = report.domains.iter().flat_map(|domain| &domain.sources).collect();
    let count = |wanted: &[Option<Level>]| sources.iter().filter(|source| wanted.contains(&source.level())).count();
    let (failed, warned) = (count(&[Some(Level::Error)]), count(&[Some(Level::Warning)]));
    let plural = if sources.len() == 1 { "source" } else { "sources" };
    let mut words = vec![format!("{} {plural}", sources.len())];
    words.push(format!("{} well", count(&[None, Some(Level::Note)])));
    words.extend((warned > 0).then(|| format!("{warned} with warnings")));
    words.extend((failed > 0).then(|| format!("{failed} with errors")));
    words.join(", ")
}

/// Writes `words` with commas between them, indented, on as few lines as fit.
fn fold(text: &mut String, words: impl IntoIterator<Item = String>, width: usize) {
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
