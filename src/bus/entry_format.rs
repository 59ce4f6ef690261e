//! The JSON of published entries, of the log's entries and of hints. An unknown field is ignored.
//! An entry of an unknown kind means `all`; so does an entry that names more than an entry may
//! ([`SCOPES_MAX`]), even if another program wrote it.

use std::sync::Arc;

use serde::Deserialize;

use crate::coherence::{
    Epoch, InvalidationScope, LogEntry, PublishedEntries, SCOPES_MAX, Seq, are_valid_scopes,
};

/// The most bytes of an entry's scopes as JSON: all names together have at most 64 KiB, and JSON
/// takes up to six bytes for each byte of them.
const ENTRY_BYTES_MAX: usize = 512 * 1024;
/// The most entries of one message; the script publishes one.
const ENTRIES_MAX: usize = 1_024;

/// `{"epoch": "…", "entries": [ENTRY…]}`, with an entry like
/// `{"seq": 7, "scopes": [["key", "42"], ["tag", "gold"], ["all", ""]]}`.
#[derive(Deserialize)]
struct RawPublished {
    epoch: String,
    entries: Vec<RawEntry>,
}

#[derive(Deserialize)]
struct RawEntry {
    seq: Seq,
    #[serde(default)]
    scopes: serde_json::Value,
}

/// `{"keys": ["42"], "tags": ["gold"], "all": true}`
#[derive(Deserialize)]
struct RawHint {
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    all: bool,
}

/// Parses a message of the channel of published entries; `None` if its epoch or a `seq` cannot be
/// read: the caller then counts a gap.
pub fn parse_published(payload: &[u8]) -> Option<PublishedEntries> {
    let raw: RawPublished = serde_json::from_slice(payload).ok()?;
    if raw.entries.len() > ENTRIES_MAX {
        return None;
    }
    let entry = |raw: RawEntry| LogEntry { seq: raw.seq, scopes: scopes_from_json(&raw.scopes) };
    Some(PublishedEntries {
        epoch: parse_epoch(&raw.epoch)?,
        entries: raw.entries.into_iter().map(entry).collect(),
    })
}

/// Parses the scopes of an entry of the log. Scopes that cannot be read mean all of the domain.
pub(super) fn parse_scopes(text: &[u8]) -> Arc<[InvalidationScope]> {
    if text.len() > ENTRY_BYTES_MAX {
        return all_scopes();
    }
    scopes_from_json(&serde_json::from_slice(text).unwrap_or_default())
}

/// Parses a hint, and returns the scopes that it names; `None` if it is no hint.
pub fn parse_hint(payload: &[u8]) -> Option<Arc<[InvalidationScope]>> {
    let raw: RawHint = serde_json::from_slice(payload).ok()?;
    if raw.all || raw.keys.len() + raw.tags.len() > SCOPES_MAX {
        return Some(all_scopes());
    }
    let keys = raw.keys.into_iter().map(|key| InvalidationScope::Key(key.into()));
    let scopes = keys.chain(raw.tags.into_iter().map(|tag| InvalidationScope::Tag(tag.into())));
    let scopes: Arc<[InvalidationScope]> = scopes.collect();
    if scopes.is_empty() {
        return None;
    }
    Some(if are_valid_scopes(&scopes) { scopes } else { all_scopes() })
}

/// Parses an epoch as Redis holds it: 32 hexadecimal digits.
pub(super) fn parse_epoch(hex: &str) -> Option<Epoch> {
    u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32).map(Epoch)
}

fn scopes_from_json(value: &serde_json::Value) -> Arc<[InvalidationScope]> {
    let pairs = value.as_array().filter(|pairs| !pairs.is_empty() && pairs.len() <= SCOPES_MAX);
    let scopes: Option<Arc<[InvalidationScope]>> =
        pairs.map(|pairs| pairs.iter().map(scope_from_json).collect());
    scopes.filter(|scopes| are_valid_scopes(scopes)).unwrap_or_else(all_scopes)
}

/// The scopes of an entry that names all of the domain.
pub(super) fn all_scopes() -> Arc<[InvalidationScope]> {
    Arc::new([InvalidationScope::All])
}

fn scope_from_json(pair: &serde_json::Value) -> InvalidationScope {
    match (pair[0].as_str(), pair[1].as_str()) {
        (Some("key"), Some(key)) => InvalidationScope::Key(key.into()),
        (Some("tag"), Some(tag)) => InvalidationScope::Tag(tag.into()),
        _ => InvalidationScope::All,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const EPOCH: &str = "000000000000000000000000000000ff";

    fn published_with(scopes: &str) -> PublishedEntries {
        parse_published(
            format!(r#"{{"epoch":"{EPOCH}","later":1,"entries":[{{"seq":7,"scopes":{scopes}}}]}}"#)
                .as_bytes(),
        )
        .unwrap()
    }

    #[test]
    fn an_entry_of_unknown_kind_means_all() {
        let published = published_with(r#"[["key","42"],["region","north"]]"#);
        assert_eq!(published.epoch, Epoch(255));
        assert_eq!(
            *published.entries[0].scopes,
            [InvalidationScope::Key("42".into()), InvalidationScope::All]
        );
    }

    #[test]
    fn scopes_that_cannot_be_read_mean_all() {
        for odd in ["{}", "[]", "7", "[7]", r#"[["key"]]"#, r#"[["key",7]]"#] {
            assert_eq!(*published_with(odd).entries[0].scopes, [InvalidationScope::All], "{odd}");
        }
        assert_eq!(*parse_scopes(b"\xff"), [InvalidationScope::All]);
    }

    #[test]
    fn an_entry_or_a_hint_that_names_more_than_an_entry_may_means_all() {
        let names = |count: usize, bytes: usize| vec!["n".repeat(bytes); count];
        let entry = |names: &[String]| {
            let pairs: Vec<_> = names.iter().map(|name| ["key", name]).collect();
            parse_scopes(&serde_json::to_vec(&pairs).unwrap())
        };
        let hinted = |names: &[String]| {
            parse_hint(&serde_json::to_vec(&serde_json::json!({"tags": names})).unwrap()).unwrap()
        };
        for (count, bytes, fits) in
            [(1_000, 10, true), (1_001, 10, false), (128, 509, true), (128, 510, false)]
        {
            let named = names(count, bytes);
            for scopes in [entry(&named), hinted(&named)] {
                assert_eq!(
                    *scopes != [InvalidationScope::All],
                    fits,
                    "{count} names of {bytes} bytes"
                );
            }
        }
        let long = [b"[[\"key\",\"".as_slice(), &vec![b'k'; ENTRY_BYTES_MAX], b"\"]]"].concat();
        assert_eq!(*parse_scopes(&long), [InvalidationScope::All]);
        let many = format!(
            r#"{{"epoch":"{EPOCH}","entries":[{}{{"seq":1}}]}}"#,
            r#"{"seq":1},"#.repeat(ENTRIES_MAX)
        );
        assert_eq!(parse_published(many.as_bytes()), None);
    }

    #[test]
    fn news_without_a_place_in_a_log_is_none() {
        for odd in ["", "{}", r#"{"epoch":"ff","entries":[]}"#, r#"{"entries":[{"seq":1}]}"#] {
            assert_eq!(parse_published(odd.as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn a_hint_names_keys_and_tags_or_all() {
        assert_eq!(
            *parse_hint(br#"{"keys":["42"],"tags":["gold"]}"#).unwrap(),
            [InvalidationScope::Key("42".into()), InvalidationScope::Tag("gold".into())]
        );
        assert_eq!(
            *parse_hint(br#"{"all":true,"keys":["42"]}"#).unwrap(),
            [InvalidationScope::All]
        );
        assert_eq!(parse_hint(b"{}"), None);
        assert_eq!(parse_hint(b"42"), None);
    }
}
