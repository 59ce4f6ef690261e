//! An event as a person reads it: when (local time), whose, what, and what more there is to say.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use owo_colors::{OwoColorize as _, Style};
use serde::Serialize;

use super::super::terminal::escape;
use crate::admin::api::{
    AdminEvent, AppliedInvalidation, CollectionReport, EventKind, FailedCollection,
    ListeningReport, SourceFailure,
};

/// Keys and tags that one line names.
const NAMED_MAX: usize = 5;
/// The column of what an event is called.
const LABEL_WIDTH: usize = 12;
/// What is printed of what an event says.
const DETAIL_CHARS_MAX: usize = 1_000;

/// Prints events, with whose they are in a column as wide as it has to be.
#[derive(Debug)]
pub(super) struct EventLines {
    zone: TimeZone,
    width: usize,
}

impl Default for EventLines {
    fn default() -> Self {
        Self { zone: TimeZone::system(), width: 8 }
    }
}

/// What an event is called, how it is coloured, and what more it says.
type EventText = (&'static str, Style, String);

impl EventLines {
    /// The line of an event. `data` is its JSON: the line of an event of another release shows it.
    pub(super) fn line_of(&mut self, event: &AdminEvent, data: &str) -> String {
        let time = self.time(event.at.as_deref());
        let Some(kind) = &event.kind else {
            return format!("{} {}", time.dimmed(), clean(data));
        };
        let (label, style, detail) = event_text(kind);
        let owner = clean(event_owner(event, kind));
        if let EventKind::Listening(report) = kind {
            let names = report.domains.iter().filter_map(|domain| domain.domain.as_deref());
            self.width = names.map(|name| name.chars().count()).fold(self.width, usize::max);
        }
        self.width = self.width.max(owner.chars().count());
        let width = self.width;
        let head = format!("{} {owner:<width$} {}", time.dimmed(), label.style(style));
        if detail.is_empty() {
            return head;
        }
        format!(
            "{head}{:pad$} {}",
            "",
            clean(&detail),
            pad = LABEL_WIDTH.saturating_sub(label.len())
        )
    }

    fn time(&self, at: Option<&str>) -> String {
        let at = at.and_then(|at| at.parse::<Timestamp>().ok()).unwrap_or_else(Timestamp::now);
        at.to_zoned(self.zone.clone()).strftime("%H:%M:%S%.3f").to_string()
    }
}

fn event_owner<'e>(event: &'e AdminEvent, kind: &EventKind) -> &'e str {
    match (&event.domain, kind) {
        (Some(domain), _) => domain,
        (None, EventKind::RedisConnected | EventKind::RedisDisconnected { .. }) => "redis",
        (None, _) => "sidecar",
    }
}

fn event_text(kind: &EventKind) -> EventText {
    let good = Style::new().green();
    let notable = Style::new().yellow();
    let bad = Style::new().red();
    match kind {
        EventKind::Listening(report) => ("listening", Style::new().cyan(), standing_text(report)),
        EventKind::Invalidated(applied) => ("invalidated", notable, scopes_text(applied)),
        EventKind::Hinted => ("hinted", notable, "a hint is in the log now".to_owned()),
        EventKind::Emptied { because } => ("emptied", bad, reason_text(because)),
        EventKind::LeaseHeld => ("lease held", good, "memory may be served from".to_owned()),
        EventKind::LeaseLost => {
            ("lease lost", bad, "memory is not trusted until redis is heard".to_owned())
        }
        EventKind::RedisConnected => ("connected", good, String::new()),
        EventKind::RedisDisconnected { because } => ("disconnected", bad, reason_text(because)),
        EventKind::Filled(report) => ("filled", good, collected_text(report)),
        EventKind::Found(report) => ("found in redis", good, collected_text(report)),
        EventKind::NotKept(report) => not_kept_text(report),
        EventKind::Failed(failed) => ("failed", bad, failures_text(failed)),
        EventKind::Reloaded => {
            ("reloaded", good, "the changed domain files are in force".to_owned())
        }
        EventKind::ReloadRefused { problems } => ("not reloaded", bad, problems.join("; ")),
        EventKind::Missed { count } => {
            ("missed", bad, format!("{} events: this reader is too slow", or_null(count.as_ref())))
        }
        EventKind::Ends { because } => ("ends", bad, reason_text(because)),
    }
}

fn standing_text(report: &ListeningReport) -> String {
    let version = report.version.as_deref().unwrap_or("?");
    let mut text = format!("bfb {version} (pid {})", or_null(report.pid.as_ref()));
    if report.redis_connected == Some(false) {
        text += ", redis not connected";
    }
    for domain in &report.domains {
        let lease = if domain.lease_held { "lease held" } else { "no lease" };
        let _ = write!(text, ", {}: {lease}", domain.domain.as_deref().unwrap_or("?"));
    }
    text
}

fn scopes_text(applied: &AppliedInvalidation) -> String {
    let mut words = Vec::new();
    if applied.all {
        words.push("all".to_owned());
    }
    let named = applied.named.clone().unwrap_or_default();
    words.extend(names_text(applied.keys, "key", "keys", &named.keys));
    words.extend(names_text(applied.tags, "tag", "tags", &named.tags));
    format!("{}, seq {}", words.join(", "), or_null(applied.seq.as_ref()))
}

/// `2 keys`, or `keys 1, 2` where they are named.
fn names_text(count: usize, one: &str, many: &str, names: &[String]) -> Option<String> {
    let word = if count == 1 { one } else { many };
    match (count, names.len()) {
        (0, _) => None,
        (_, 0) => Some(format!("{count} {word}")),
        _ => {
            let shown = names.len().min(NAMED_MAX);
            let more = count.saturating_sub(shown);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Some(format!("{word} {}{more}", names[..shown].join(", ")))
        }
    }
}

fn not_kept_text(report: &CollectionReport) -> EventText {
    let because = report.because.as_deref().unwrap_or_default();
    let collected = collected_text(report);
    if because == "off" {
        return ("collected", Style::new(), collected);
    }
    ("not kept", Style::new().yellow(), format!("{}: {collected}", reason_text(because)))
}

/// `key 42, 2.1 KiB in 7.8 ms, 2 rounds`.
fn collected_text(report: &CollectionReport) -> String {
    let mut words = key_text(report.key.as_deref());
    let took = report.took_ms.unwrap_or_default();
    if report.dataset.is_none() {
        let _ = write!(words, "no such dataset, in {took} ms");
        return words;
    }
    let _ = write!(words, "{} in {took} ms", bytesize::ByteSize::b(report.bytes));
    if let Some(rounds) = report.rounds.filter(|rounds| *rounds != 1) {
        let _ = write!(words, ", {rounds} rounds");
    }
    words
}

fn failures_text(failed: &FailedCollection) -> String {
    let one = |failed: &SourceFailure| {
        let detail = failed.detail.as_deref().unwrap_or_default();
        format!("{}: {}: {detail}", failed.source, failed.reason)
    };
    let failures = failed.failed.iter().map(one).collect::<Vec<_>>().join("; ");
    let took = or_null(failed.took_ms.as_ref());
    format!("{}{failures}, in {took} ms", key_text(failed.key.as_deref()))
}

fn key_text(key: Option<&str>) -> String {
    key.map(|key| format!("key {key}, ")).unwrap_or_default()
}

/// A number as it is in JSON; `null` where there is none.
fn or_null(number: Option<&impl Serialize>) -> String {
    serde_json::to_string(&number).unwrap_or_default()
}

fn reason_text(because: &str) -> String {
    match because {
        "epoch" => "memory is outdated: redis began a new log",
        "stream-end" => "memory is outdated: the log does not reach back",
        "owner" => "memory is outdated: the sidecar was told so",
        "off" => "nothing is kept",
        "no-store" => "the request said no-store",
        "no-tags" => "its tags are too many or too long, or its tags program failed",
        "lease-lost" => "no lease",
        "fenced" => "invalidated in the air",
        other => other,
    }
    .to_owned()
}

/// Whatever a key or a source says, it steers no terminal, and is not longer than a line may be.
fn clean(text: &str) -> String {
    let end = text.char_indices().nth(DETAIL_CHARS_MAX).map_or(text.len(), |(at, _)| at);
    escape(&text[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn line(event: &Value) -> String {
        let mut lines = EventLines { zone: TimeZone::UTC, width: 8 };
        let data = event.to_string();
        let line = lines.line_of(&AdminEvent::from_data(&data), &data);
        anstream::adapter::strip_str(&line).to_string()
    }

    const AT: &str = "2026-11-22T14:02:11.032Z";

    #[test]
    fn an_event_is_a_line_that_says_when_whose_and_what() {
        let event = json!({"at": AT, "event": "invalidated", "domain": "customer", "keys": 1,
            "tags": 2, "seq": 7});
        assert_eq!(line(&event), "14:02:11.032 customer invalidated  1 key, 2 tags, seq 7");
        let event = json!({"at": AT, "event": "redis-connected"});
        assert_eq!(line(&event), "14:02:11.032 redis    connected");
    }

    #[test]
    fn names_are_shown_up_to_a_bound() {
        let named = json!({"keys": ["1", "2", "3", "4", "5", "6"], "tags": []});
        let event = json!({"at": AT, "event": "invalidated", "domain": "d", "keys": 9, "tags": 0,
            "seq": 1, "named": named});
        assert!(line(&event).ends_with("keys 1, 2, 3, 4, 5 and 4 more, seq 1"), "{}", line(&event));
    }

    #[test]
    fn a_key_steers_no_terminal() {
        let event = json!({"at": AT, "event": "failed", "domain": "d",
            "key": "\u{1b}[2J\n\u{202e}\u{9b}", "failed": [], "took_ms": 1.5});
        let line = line(&event);
        assert!(line.contains(r"key \u{1b}[2J\n\u{202e}\u{9b}, "), "{line}");
    }

    #[test]
    fn what_a_later_release_tells_is_shown_as_it_came() {
        let line = line(&json!({"at": AT, "event": "verified", "nines": 5}));
        assert!(line.contains(r#""event":"verified""#) && line.contains(r#""nines":5"#), "{line}");
    }
}
