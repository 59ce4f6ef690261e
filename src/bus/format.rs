//! What pub/sub and the log carry, as JSON. An unknown field is ignored, an entry of unknown kind means `all`.

use std::sync::Arc;

use serde::Deserialize;

use crate::coherence::{Entry, Epoch, Published, Scope, Seq};

/// Scopes that one hint may name; more of them mean `all`.
const HINTED_MAX: usize = 10_000;

/// `{"epoch": "…", "entries": [{"seq": 7, "scopes": [["key", "42"], ["tag", "gold"], ["all", ""]]}]}`
#[derive(Deserialize)]
struct RawNews {
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

/// What came on the channel of news; nothing if its epoch or a seq cannot be read: then something was missed.
pub fn news(payload: &[u8]) -> Option<Published> {
    let raw: RawNews = serde_json::from_slice(payload).ok()?;
    let entry = |raw: RawEntry| Entry { seq: raw.seq, scopes: scopes_of(&raw.scopes) };
    Some(Published { epoch: epoch(&raw.epoch)?, entries: raw.entries.into_iter().map(entry).collect() })
}

/// The scopes of a log's entry. What cannot be read means all of the domain.
pub(super) fn scopes(text: &[u8]) -> Arc<[Scope]> {
    scopes_of(&serde_json::from_slice(text).unwrap_or_default())
}

/// What a hint names; nothing if it is no hint.
pub fn hint(payload: &[u8]) -> Option<Arc<[Scope]>> {
    let raw: RawHint = serde_json::from_slice(payload).ok()?;
    if raw.all || raw.keys.len() + raw.tags.len() > HINTED_MAX {
        return Some(Arc::new([Scope::All]));
    }
    let keys = raw.keys.into_iter().map(|key| Scope::Key(key.into()));
    let scopes = keys.chain(raw.tags.into_iter().map(|tag| Scope::Tag(tag.into())));
    Some(scopes.collect()).filter(|scopes: &Arc<[Scope]>| !scopes.is_empty())
}

/// An epoch as Redis holds it.
pub(super) fn epoch(hex: &str) -> Option<Epoch> {
    u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32).map(Epoch)
}

fn scopes_of(value: &serde_json::Value) -> Arc<[Scope]> {
    let scopes = value.as_array().filter(|pairs| !pairs.is_empty());
    scopes.map_or_else(|| Arc::new([Scope::All]) as Arc<[Scope]>, |pairs| pairs.iter().map(scope).collect())
}

fn scope(pair: &serde_json::Value) -> Scope {
    match (pair[0].as_str(), pair[1].as_str()) {
        (Some("key"), Some(key)) => Scope::Key(key.into()),
        (Some("tag"), Some(tag)) => Scope::Tag(tag.into()),
        _ => Scope::All,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const EPOCH: &str = "000000000000000000000000000000ff";

    fn news_of(scopes: &str) -> Published {
        news(format!(r#"{{"epoch":"{EPOCH}","later":1,"entries":[{{"seq":7,"scopes":{scopes}}}]}}"#).as_bytes())
            .unwrap()
    }

    #[test]
    fn an_entry_of_unknown_kind_means_all() {
        let published = news_of(r#"[["key","42"],["region","north"]]"#);
        assert_eq!(published.epoch, Epoch(255));
        assert_eq!(*published.entries[0].scopes, [Scope::Key("42".into()), Scope::All]);
    }

    #[test]
    fn scopes_that_cannot_be_read_mean_all() {
        for odd in ["{}", "[]", "7", "[7]", r#"[["key"]]"#, r#"[["key",7]]"#] {
            assert_eq!(*news_of(odd).entries[0].scopes, [Scope::All], "{odd}");
        }
        assert_eq!(*scopes(b"\xff"), [Scope::All]);
    }

    #[test]
    fn news_without_a_place_in_a_log_is_none() {
        for odd in ["", "{}", r#"{"epoch":"ff","entries":[]}"#, r#"{"entries":[{"seq":1}]}"#] {
            assert_eq!(news(odd.as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn a_hint_names_keys_and_tags_or_all() {
        assert_eq!(
            *hint(br#"{"keys":["42"],"tags":["gold"]}"#).unwrap(),
            [Scope::Key("42".into()), Scope::Tag("gold".into())]
        );
        assert_eq!(*hint(br#"{"all":true,"keys":["42"]}"#).unwrap(), [Scope::All]);
        assert_eq!(hint(b"{}"), None);
        assert_eq!(hint(b"42"), None);
    }
}
