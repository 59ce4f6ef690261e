//! An event as a person reads it: when (local time), whose, what, and what more there is to say.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use owo_colors::{OwoColorize as _, Style};
use serde_json::Value;

use super::super::terminal::escape;

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
    /// The line of an event.
    pub(super) fn line_of(&mut self, event: &Value) -> String {
        let name = event["event"].as_str().unwrap_or_default();
        let Some((label, style, detail)) = event_text(name, event) else {
            return format!("{} {}", self.time(event).dimmed(), clean(&event.to_string()));
        };
        let owner = clean(event_owner(name, event));
        if name == "listening" {
            let names = event["domains"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|one| one["domain"].as_str());
            self.width = names.map(|name| name.chars().count()).fold(self.width, usize::max);
        }
        self.width = self.width.max(owner.chars().count());
        let (time, width) = (self.time(event), self.width);
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

    fn time(&self, event: &Value) -> String {
        let at = event["at"]
            .as_str()
            .and_then(|at| at.parse::<Timestamp>().ok())
            .unwrap_or_else(Timestamp::now);
        at.to_zoned(self.zone.clone()).strftime("%H:%M:%S%.3f").to_string()
    }
}

fn event_owner<'e>(name: &str, event: &'e Value) -> &'e str {
    match event["domain"].as_str() {
        Some(domain) => domain,
        None if name.starts_with("redis-") => "redis",
        None => "sidecar",
    }
}

/// `None`: this release does not know it.
fn event_text(name: &str, event: &Value) -> Option<EventText> {
    let (good, notable, bad) = (Style::new().green(), Style::new().yellow(), Style::new().red());
    Some(match name {
        "listening" => ("listening", Style::new().cyan(), standing_text(event)),
        "invalidated" => ("invalidated", notable, scopes_text(event)),
        "hinted" => ("hinted", notable, "a hint is in the log now".to_owned()),
        "emptied" => ("emptied", bad, reason_text(event)),
        "lease-held" => ("lease held", good, "memory may be served from".to_owned()),
        "lease-lost" => {
            ("lease lost", bad, "memory is not trusted until redis is heard".to_owned())
        }
        "redis-connected" => ("connected", good, String::new()),
        "redis-disconnected" => ("disconnected", bad, reason_text(event)),
        "filled" => ("filled", good, collected_text(event)),
        "found" => ("found in redis", good, collected_text(event)),
        "not-kept" if event["because"] == "off" => {
            ("collected", Style::new(), collected_text(event))
        }
        "not-kept" => {
            ("not kept", notable, format!("{}: {}", reason_text(event), collected_text(event)))
        }
        "failed" => ("failed", bad, failures_text(event)),
        "reloaded" => ("reloaded", good, "the changed domain files are in force".to_owned()),
        "reload-refused" => ("not reloaded", bad, join_list(&event["problems"], Value::as_str)),
        "missed" => ("missed", bad, format!("{} events: this reader is too slow", event["count"])),
        "ends" => ("ends", bad, reason_text(event)),
        _ => return None,
    })
}

fn standing_text(event: &Value) -> String {
    let mut text =
        format!("bfb {} (pid {})", event["version"].as_str().unwrap_or("?"), event["pid"]);
    if event["redis_connected"] == false {
        text += ", redis not connected";
    }
    for domain in event["domains"].as_array().into_iter().flatten() {
        let lease = if domain["lease_held"] == true { "lease held" } else { "no lease" };
        let _ = write!(text, ", {}: {lease}", domain["domain"].as_str().unwrap_or("?"));
    }
    text
}

fn scopes_text(event: &Value) -> String {
    let mut words = Vec::new();
    if event["all"] == true {
        words.push("all".to_owned());
    }
    for (many, one) in [("keys", "key"), ("tags", "tag")] {
        let count = event[many].as_u64().unwrap_or_default();
        let word = if count == 1 { one } else { many };
        let names: Vec<_> = event["named"][many]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        match (count, names.len()) {
            (0, _) => {}
            (_, 0) => words.push(format!("{count} {word}")),
            _ => {
                let shown = names.len().min(NAMED_MAX);
                let more = count.saturating_sub(shown as u64);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                words.push(format!("{word} {}{more}", names[..shown].join(", ")));
            }
        }
    }
    format!("{}, seq {}", words.join(", "), event["seq"])
}

/// `key 42, 2.1 KiB in 7.8 ms, 2 rounds`.
fn collected_text(event: &Value) -> String {
    let mut words = key_text(event);
    let took = event["took_ms"].as_f64().unwrap_or_default();
    if event["dataset"].is_null() {
        let _ = write!(words, "no such dataset, in {took} ms");
        return words;
    }
    let (bytes, rounds) =
        (bytesize::ByteSize::b(event["bytes"].as_u64().unwrap_or_default()), &event["rounds"]);
    let _ = write!(words, "{bytes} in {took} ms");
    if rounds.as_u64().is_some_and(|rounds| rounds != 1) {
        let _ = write!(words, ", {rounds} rounds");
    }
    words
}

fn failures_text(event: &Value) -> String {
    let one = |failed: &Value| {
        let word = |name: &str| failed[name].as_str().unwrap_or_default().to_owned();
        Some(format!("{}: {}: {}", word("source"), word("reason"), word("detail")))
    };
    format!("{}{}, in {} ms", key_text(event), join_list(&event["failed"], one), event["took_ms"])
}

fn key_text(event: &Value) -> String {
    event["key"].as_str().map(|key| format!("key {key}, ")).unwrap_or_default()
}

fn reason_text(event: &Value) -> String {
    let word = event["because"].as_str().unwrap_or_default();
    match word {
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

fn join_list<'e, T: std::fmt::Display>(
    list: &'e Value,
    word: impl Fn(&'e Value) -> Option<T>,
) -> String {
    let words: Vec<_> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(word)
        .map(|word| word.to_string())
        .collect();
    words.join("; ")
}

/// Whatever a key or a source says, it steers no terminal, and is not longer than a line may be.
fn clean(text: &str) -> String {
    let end = text.char_indices().nth(DETAIL_CHARS_MAX).map_or(text.len(), |(at, _)| at);
    escape(&text[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(event: &Value) -> String {
        let mut lines = EventLines { zone: TimeZone::UTC, width: 8 };
        anstream::adapter::strip_str(&lines.line_of(event)).to_string()
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
