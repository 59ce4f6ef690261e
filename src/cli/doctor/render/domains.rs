//! A domain for people: a table of its sources with two lines or three each, then what was found.

use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use owo_colors::OwoColorize as _;

use super::super::probe::{AnswerFacts, EtagStrength, WithoutCertificate};
use super::super::report::{
    ConnectionReport, DomainReport, SourceReport, StatementReport, TypedName,
};
use super::layout::{certificate_identity, draw_findings, expires_in, level_sign, write_folded};

/// Draws `domain`; `asked`: its sources were asked with a key.
pub(super) fn draw_domain(text: &mut String, domain: &DomainReport, asked: bool, width: usize) {
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

fn draw_source(text: &mut String, line: &str, source: &SourceReport, width: usize) {
    let rest = line.trim_start_matches(['✗', '!', '✓']);
    let _ = writeln!(text, "{}{rest}", level_sign(source.level()));
    let mut first = vec![source.origin.clone()];
    let mut second = Vec::new();
    if let Some(connection) = &source.connection {
        second.extend(connection_words(connection, source));
        first.extend(
            connection
                .certificate
                .as_ref()
                .map(|certificate| certificate_identity(certificate, &source.server)),
        );
    }
    write_folded(text, first, width);
    write_folded(text, second, width);
    let types = source.database.as_ref().and_then(|it| it.statement.as_ref()).map(type_words);
    write_folded(text, types.unwrap_or_default(), width);
}

fn connection_words(connection: &ConnectionReport, source: &SourceReport) -> Vec<String> {
    let mut words: Vec<String> =
        [&connection.protocol, &connection.key_exchange].into_iter().flatten().cloned().collect();
    words.extend(source.answer.as_ref().map(|answer| answer.http.to_owned()));
    words.extend(source.database.iter().flat_map(|it| {
        let product = format!("{} {}", it.product, it.version);
        [Some(product), it.deployment.map(str::to_owned)].into_iter().flatten()
    }));
    words.extend(
        connection
            .certificate
            .as_ref()
            .map(|certificate| format!("issued by {}", certificate.issuer)),
    );
    words
}

/// `{key}: int8`, then the columns.
fn type_words(statement: &StatementReport) -> Vec<String> {
    let typed = |it: &TypedName| format!("{}: {}", it.name, it.type_name);
    statement.parameters.iter().chain(&statement.columns).map(typed).collect()
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
    let connection = source.connection.as_ref();
    let answer = source.answer.as_ref();
    let rows = source.rows.as_ref();
    let time = |ms: Option<f64>| ms.map(|ms| format!("{ms:.1} ms"));
    let cell = |column: &&str| match *column {
        // The mark stands for itself while widths are measured; its colour comes later.
        "  SOURCE" => Some(format!("✓ {}", source.name)),
        "CLIENT CERT" => connection.and_then(certificate_demand).map(str::to_owned),
        "EXPIRES IN" => connection.and_then(|it| it.certificate.as_ref()).map(expires_in),
        "CONNECT" => time(connection.map(|it| it.connect_ms)),
        "TLS" => time(connection.and_then(|it| it.handshake_ms)),
        "FIRST" => time(answer.map(|it| it.first_ms).or(rows.map(|it| it.first_ms))),
        "WARM" => time(answer.map_or(rows.and_then(|it| it.warm_ms), |it| it.warm_ms)),
        _ => answer.map(validator_text),
    };
    header.iter().map(|column| cell(column).unwrap_or_else(|| "-".to_owned())).collect()
}

fn certificate_demand(connection: &ConnectionReport) -> Option<&'static str> {
    match (connection.asks_for_certificate?, connection.without_certificate) {
        (false, _) => Some("not asked"),
        (true, Some(WithoutCertificate::Accepted)) => Some("optional"),
        (true, Some(WithoutCertificate::Refused | WithoutCertificate::Closed)) => Some("demanded"),
        (true, None) => Some("asked"),
    }
}

fn validator_text(answer: &AnswerFacts) -> String {
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
