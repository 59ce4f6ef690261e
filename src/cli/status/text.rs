//! The state of a sidecar as text for people: its identity, its fleet, its cache, its domains, its
//! troubles. It fits a terminal of 80 columns unless names are long.

use std::fmt::{Display, Write as _};

use bytesize::ByteSize;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use owo_colors::OwoColorize as _;

use super::super::terminal::escape;
use crate::admin::api::{
    CacheCounts, CacheTierStatus, DomainStatus, FleetStatus, LastFailure, SourceStatus, Status,
};

/// Characters of an epoch and of a plan: they are told apart by a glance; `--format json` has them
/// whole.
const SHORT: usize = 12;

/// The whole state as text.
pub(super) fn text(status: &Status) -> String {
    let mut text = format!(
        "{} (pid {}), {}, {} in flight, log `{}`\n",
        format!("bfb {}", or_dash(status.version.as_deref())).bold(),
        or_dash(status.pid),
        or_dash(status.phase.as_deref()),
        or_dash(status.in_flight),
        or_dash(status.log.as_ref().map(|log| &log.level)),
    );
    if let Some(identity) = &status.identity {
        let names = or_dash(identity.names.as_deref());
        let not_after = or_dash(identity.not_after.as_deref());
        let _ = writeln!(text, "identity {names}\n         valid until {not_after}");
    }
    write_fleet(&mut text, &status.fleet);
    write_cache(&mut text, &status.cache.clone().unwrap_or_default());
    for domain in &status.domains {
        write_domain(&mut text, domain);
    }
    for trouble in &status.trouble {
        let _ = writeln!(text, "\n{} {}", "trouble:".red(), escape(trouble));
    }
    text
}

fn write_fleet(text: &mut String, fleet: &FleetStatus) {
    let transport = match (fleet.alone, fleet.connected) {
        (true, _) => "of one".to_owned(),
        (false, true) => "over Redis, connected".to_owned(),
        (false, false) => format!("over Redis, {}", "not connected".red()),
    };
    let _ = writeln!(text, "\n{} {transport}", "fleet".bold());
    let mut table = table(["DOMAIN", "LEASE", "EPOCH", "SEQ", "LAG"], &[3, 4]);
    for domain in &fleet.domains {
        let lease = match (domain.lease_held, domain.lease_left_ms) {
            (true, Some(ms)) => format!("held, {ms} ms left"),
            (true, None) => "held".to_owned(),
            (false, _) => "not held".to_owned(),
        };
        let epoch = or_dash(domain.epoch.as_deref());
        table.add_row([
            or_dash(domain.domain.as_deref()),
            lease,
            short(&epoch),
            or_dash(domain.seq),
            or_dash(domain.lag),
        ]);
    }
    let _ = writeln!(text, "{}", table.trim_fmt());
}

fn write_cache(text: &mut String, cache: &CacheCounts) {
    let rate = percent(cache.hit_percent);
    let _ = writeln!(text, "\n{} {rate} hits of {} reads", "cache".bold(), or_dash(cache.reads));
    let mut table = table(["TIER", "HITS", "RATE", "HOLDS"], &[1, 2]);
    for tier in &cache.tiers {
        table.add_row([
            or_dash(tier.tier.as_deref()),
            or_dash(tier.hits),
            percent(tier.percent),
            holds(tier),
        ]);
    }
    let _ = writeln!(text, "{}", table.trim_fmt());
    let misses = or_dash(cache.misses);
    let collapsed = or_dash(cache.collapsed);
    let fenced = or_dash(cache.fenced);
    let evicted = or_dash(cache.evicted);
    let stale = or_dash(cache.stale_served);
    let counts = format!(
        "{misses} misses ({collapsed} joined a flight), {fenced} fenced, {evicted} evicted"
    );
    let _ = writeln!(text, "  {counts}, {stale} served stale");
}

fn holds(tier: &CacheTierStatus) -> String {
    let bytes = tier.bytes.map(ByteSize::b);
    let capacity = tier.capacity.map(ByteSize::b);
    match (tier.entries, bytes, capacity) {
        (_, _, Some(ByteSize(0))) => "off".to_owned(),
        (Some(entries), Some(bytes), Some(capacity)) => {
            let datasets = if entries == 1 { "dataset" } else { "datasets" };
            format!("{entries} {datasets}, {bytes} of {capacity}")
        }
        _ => "-".to_owned(),
    }
}

/// The identity of a source's server, and how far it is proven where that is less than mutual.
fn server_text(source: &SourceStatus) -> String {
    let server = or_dash(source.server.as_deref());
    match source.mutual.as_deref() {
        None | Some("proven") => server,
        Some(mutual) => format!("{server}, mutual: {mutual}"),
    }
}

fn write_domain(text: &mut String, domain: &DomainStatus) {
    let name = or_dash(domain.name.as_deref());
    let plan = or_dash(domain.plan.as_deref());
    let file = or_dash(domain.file.as_deref());
    let _ = writeln!(text, "\n{} plan {} of {file}", name.bold(), short(&plan));
    for version in &domain.versions {
        let name = or_dash(version.name.as_deref());
        let path = or_dash(version.path.as_deref());
        let deprecated = version.deprecated.as_ref().map(|date| format!(", deprecated {date}"));
        let _ = writeln!(text, "  {name}  {path}{}", deprecated.unwrap_or_default());
    }
    let mut table = table(["SOURCE", "BREAKER", "BUSY", "LAST FAILURE", "SERVER"], &[2]);
    for source in &domain.sources {
        let state = &source.state;
        table.add_row([
            or_dash(source.name.as_deref()),
            or_dash(state.breaker.as_deref()),
            or_dash(state.in_flight),
            last_failure(state.last_failure.as_ref()),
            server_text(source),
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

/// A member of the status as text; a dash if it is absent.
fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| escape(&value.to_string()).into_owned())
}

fn short(name: &str) -> String {
    name.chars().take(SHORT).collect()
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1} %"))
}

fn last_failure(failure: Option<&LastFailure>) -> String {
    match failure.map(|failure| (failure.reason.as_deref(), failure.seconds_ago)) {
        Some((Some(reason), Some(seconds))) => format!("{}, {seconds} s ago", escape(reason)),
        _ => "-".to_owned(),
    }
}
