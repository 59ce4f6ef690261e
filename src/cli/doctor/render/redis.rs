//! The fleet's Redis for people: a table of its servers, one of the domains' logs, then what was
//! found.

use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use owo_colors::OwoColorize as _;

use super::super::findings::{Finding, FindingLevel};
use super::super::report::{LogReport, LogStateReport, RedisReport, ServerReport, ServerSettings};
use super::layout::{certificate_identity, draw_findings, expires_in, level_sign, write_folded};

/// Draws it.
pub(super) fn draw_redis(text: &mut String, report: &RedisReport, width: usize) {
    let kind = match report.kind {
        "sentinel" => "found by sentinels",
        "cluster" => "a Cluster",
        _ => "one server",
    };
    let _ = writeln!(text, "\n{} {kind}, namespace {}", "redis".bold(), report.namespace);
    draw_servers(text, report, width);
    draw_logs(text, report, width);
    let of_servers =
        report.servers.iter().flat_map(|server| with_name(&server.address, &server.findings));
    let of_logs = report.logs.iter().flat_map(|log| with_name(&log.domain, &log.findings));
    let own = report.findings.iter().map(|finding| (None, finding));
    let findings: Vec<_> = own.chain(of_servers).chain(of_logs).collect();
    if !findings.is_empty() {
        text.push('\n');
        draw_findings(text, findings);
    }
}

fn with_name<'a>(
    name: &'a str,
    findings: &'a [Finding],
) -> impl Iterator<Item = (Option<&'a str>, &'a Finding)> {
    findings.iter().map(move |finding| (Some(name), finding))
}

fn draw_servers(text: &mut String, report: &RedisReport, width: usize) {
    let all = ["  SERVER", "VERSION", "CERT EXPIRES IN", "ROUND TRIP", "SCRIPT", "EVICTION"];
    let few = ["  SERVER", "VERSION", "SCRIPT"];
    let cells = |server: &ServerReport, column: &str| {
        let time = |ms: Option<f64>| ms.map(|ms| format!("{ms:.2} ms"));
        match column {
            "  SERVER" => Some(format!("✓ {}", server.address)),
            "VERSION" => server.version.clone(),
            "CERT EXPIRES IN" => {
                server.tls.as_ref().and_then(|tls| tls.certificate.as_ref()).map(expires_in)
            }
            "ROUND TRIP" => time(server.round_trip_ms),
            "SCRIPT" => time(server.script_ms),
            _ => server.eviction.clone(),
        }
    };
    let lines = table(&report.servers, &[&all, &few], width, cells);
    draw_lines(text, &lines, report.servers.iter().map(ServerReport::level), |text, at| {
        let server = &report.servers[at];
        write_folded(
            text,
            server.settings.iter().filter_map(ServerSettings::slow_subscriber),
            width,
        );
        let Some(tls) = &server.tls else { return };
        let host = server.address.rsplit_once(':').map_or(&*server.address, |(host, _)| host);
        let certificate = tls.certificate.as_ref();
        let words = [tls.protocol, tls.key_exchange].into_iter().flatten().map(str::to_owned);
        let words = words.chain(certificate.map(|it| certificate_identity(it, host)));
        write_folded(
            text,
            words.chain(certificate.map(|it| format!("issued by {}", it.issuer))),
            width,
        );
    });
}

fn draw_logs(text: &mut String, report: &RedisReport, width: usize) {
    let cells = |log: &LogReport, column: &str| {
        let state = log.state.as_ref();
        match column {
            "  LOG" => Some(format!("✓ {}", log.domain)),
            "SEQ" => state.map(|state| state.seq.to_string()),
            "SIDECARS" => state.map(|state| state.sidecars.to_string()),
            "LEASE" => state.map(leases),
            _ => state.map(|state| state.epoch.chars().take(8).collect()),
        }
    };
    let lines = table(
        &report.logs,
        &[&["  LOG", "SEQ", "SIDECARS", "LEASE", "EPOCH"], &["  LOG", "SEQ", "SIDECARS"]],
        width,
        cells,
    );
    draw_lines(text, &lines, report.logs.iter().map(LogReport::level), |_, _| {});
}

fn leases(state: &LogStateReport) -> String {
    let lease = |ms| humantime::format_duration(std::time::Duration::from_millis(ms)).to_string();
    let all: Vec<_> = state.leases.iter().map(|same| lease(same.lease_ms)).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

/// The lines of the widest table that fits.
fn table<T>(
    rows: &[T],
    widths: &[&[&str]],
    width: usize,
    cell: impl Fn(&T, &str) -> Option<String>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for header in widths {
        let mut table = Table::new();
        table
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(*header);
        for row in rows {
            table.add_row(
                header.iter().map(|column| cell(row, column).unwrap_or_else(|| "-".to_owned())),
            );
        }
        for (at, name) in header.iter().enumerate() {
            if let Some(column) = table.column_mut(at) {
                column.set_padding((0, 2));
                if ["ROUND TRIP", "SCRIPT", "SEQ", "SIDECARS"].contains(name) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        lines = table.trim_fmt().lines().map(str::to_owned).collect();
        if lines.iter().all(|line| line.chars().count() <= width) {
            break;
        }
    }
    lines
}

/// The header, then each row with the mark of its worst finding, and its findings below it.
fn draw_lines(
    text: &mut String,
    lines: &[String],
    levels: impl Iterator<Item = Option<FindingLevel>>,
    below: impl Fn(&mut String, usize),
) {
    let Some((header, rows)) = lines.split_first() else { return };
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", header.dimmed());
    for (at, (line, level)) in rows.iter().zip(levels).enumerate() {
        let _ = writeln!(text, "{}{}", level_sign(level), line.trim_start_matches('✓'));
        below(text, at);
    }
}
