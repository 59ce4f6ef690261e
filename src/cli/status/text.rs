//! The state of a sidecar as a person reads it: what it is, its fleet, its cache, its domains, its
//! troubles. It fits a terminal of 80 columns where names do.

use std::fmt::Write as _;

use bytesize::ByteSize;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use owo_colors::OwoColorize as _;
use serde_json::Value;

use super::super::terminal::escape;

/// Characters of an epoch and of a plan: they are told apart by a glance; `--format json` has them
/// whole.
const SHORT: usize = 12;

/// All of it.
pub(super) fn text(status: &Value) -> String {
    let mut text = format!(
        "{} (pid {}), {}, {} in flight, log `{}`\n",
        format!("bfb {}", member_text(status, "version")).bold(),
        member_text(status, "pid"),
        member_text(status, "phase"),
        member_text(status, "in_flight"),
        member_text(&status["log"], "level"),
    );
    if let Some(identity) = status.get("identity").filter(|identity| !identity.is_null()) {
        let (names, not_after) =
            (member_text(identity, "names"), member_text(identity, "not_after"));
        let _ = writeln!(text, "identity {names}\n         valid until {not_after}");
    }
    write_fleet(&mut text, &status["fleet"]);
    write_cache(&mut text, &status["cache"]);
    for domain in list(&status["domains"]) {
        write_domain(&mut text, domain);
    }
    for trouble in list(&status["trouble"]).filter_map(Value::as_str) {
        let _ = writeln!(text, "\n{} {}", "trouble:".red(), escape(trouble));
    }
    text
}

fn write_fleet(text: &mut String, fleet: &Value) {
    let alone = fleet["alone"] == true;
    let transport = match (alone, fleet["connected"] == true) {
        (true, _) => "of one".to_owned(),
        (false, true) => "over Redis, connected".to_owned(),
        (false, false) => format!("over Redis, {}", "not connected".red()),
    };
    let _ = writeln!(text, "\n{} {transport}", "fleet".bold());
    let mut table = table(["DOMAIN", "LEASE", "EPOCH", "SEQ", "LAG"], &[3, 4]);
    for domain in list(&fleet["domains"]) {
        let lease = match (domain["lease_held"] == true, domain["lease_left_ms"].as_u64()) {
            (true, Some(ms)) => format!("held, {ms} ms left"),
            (true, None) => "held".to_owned(),
            (false, _) => "not held".to_owned(),
        };
        let epoch = member_text(domain, "epoch");
        table.add_row([
            member_text(domain, "domain"),
            lease,
            short(&epoch),
            member_text(domain, "seq"),
            member_text(domain, "lag"),
        ]);
    }
    let _ = writeln!(text, "{}", table.trim_fmt());
}

fn write_cache(text: &mut String, cache: &Value) {
    let rate = percent(&cache["hit_percent"]);
    let _ =
        writeln!(text, "\n{} {rate} hits of {} reads", "cache".bold(), member_text(cache, "reads"));
    let mut table = table(["TIER", "HITS", "RATE", "HOLDS"], &[1, 2]);
    for tier in list(&cache["tiers"]) {
        table.add_row([
            member_text(tier, "tier"),
            member_text(tier, "hits"),
            percent(&tier["percent"]),
            holds(tier),
        ]);
    }
    let _ = writeln!(text, "{}", table.trim_fmt());
    let (misses, collapsed, fenced) = (
        member_text(cache, "misses"),
        member_text(cache, "collapsed"),
        member_text(cache, "fenced"),
    );
    let (evicted, stale) = (member_text(cache, "evicted"), member_text(cache, "stale_served"));
    let counts = format!(
        "{misses} misses ({collapsed} joined a flight), {fenced} fenced, {evicted} evicted"
    );
    let _ = writeln!(text, "  {counts}, {stale} served stale");
}

fn holds(tier: &Value) -> String {
    let size = |name: &str| tier[name].as_u64().map(ByteSize::b);
    match (tier["entries"].as_u64(), size("bytes"), size("capacity")) {
        (_, _, Some(ByteSize(0))) => "off".to_owned(),
        (Some(entries), Some(bytes), Some(capacity)) => {
            let datasets = if entries == 1 { "dataset" } else { "datasets" };
            format!("{entries} {datasets}, {bytes} of {capacity}")
        }
        _ => "-".to_owned(),
    }
}

fn write_domain(text: &mut String, domain: &Value) {
    let (name, plan, file) =
        (member_text(domain, "name"), member_text(domain, "plan"), member_text(domain, "file"));
    let _ = writeln!(text, "\n{} plan {} of {file}", name.bold(), short(&plan));
    for version in list(&domain["versions"]) {
        let (name, path) = (member_text(version, "name"), member_text(version, "path"));
        let deprecated = version["deprecated"].as_str().map(|date| format!(", deprecated {date}"));
        let _ = writeln!(text, "  {name}  {path}{}", deprecated.unwrap_or_default());
    }
    let mut table = table(["SOURCE", "BREAKER", "BUSY", "LAST FAILURE", "SERVER"], &[2]);
    for source in list(&domain["sources"]) {
        let state = &source["state"];
        table.add_row([
            member_text(source, "name"),
            member_text(state, "breaker"),
            member_text(state, "in_flight"),
            last_failure(&state["last_failure"]),
            member_text(source, "server"),
        ]);
    }
    let _ = writeln!(text, "{}", table.trim_fmt());
}

/// A table without lines, two blanks before and between its columns; those at `numbers` are flush
/// right.
fn table<const N: usize>(header: [&str; N], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((2, 0));
        if numbers.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn member_text(value: &Value, name: &str) -> String {
    match value.get(name) {
        Some(Value::String(text)) => escape(text).into_owned(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => escape(&other.to_string()).into_owned(),
    }
}

fn short(name: &str) -> String {
    name.chars().take(SHORT).collect()
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1} %"))
}

fn last_failure(failure: &Value) -> String {
    match (failure["reason"].as_str(), failure["seconds_ago"].as_u64()) {
        (Some(reason), Some(seconds)) => format!("{}, {seconds} s ago", escape(reason)),
        _ => "-".to_owned(),
    }
}
