//! What the scripts answer: a list of texts, of which the first says what it is. What follows
//! beyond what is known here is ignored.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::entry_format;
use super::fault::RedisFault;
use crate::coherence::{
    Epoch, Fence, FetchedDataset, HeartbeatReply, IssuedInvalidation, LogEntry, MemberName,
    ScriptReply, TierDataset, are_valid_tags,
};

/// Reads a script's answer.
pub fn parse_reply(value: Value) -> Result<ScriptReply, RedisFault> {
    let Value::Array(items) = value else { return Err(RedisFault::Unreadable) };
    parse_fields(ReplyFields { items: items.into_iter() }).ok_or(RedisFault::Unreadable)
}

/// The texts of an answer, one after the other.
struct ReplyFields {
    items: std::vec::IntoIter<Value>,
}

impl ReplyFields {
    fn bytes(&mut self) -> Option<Vec<u8>> {
        match self.items.next()? {
            Value::BulkString(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }

    fn number(&mut self) -> Option<u64> {
        self.text()?.parse().ok()
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.text()? == "1")
    }

    fn epoch(&mut self) -> Option<Epoch> {
        entry_format::parse_epoch(&self.text()?)
    }

    fn fence(&mut self) -> Option<Fence> {
        Some(Fence { epoch: self.epoch()?, seq: self.number()? })
    }

    fn millis(&mut self) -> Option<Duration> {
        self.number().map(Duration::from_millis)
    }

    fn is_empty(&self) -> bool {
        self.items.len() == 0
    }

    fn all<T>(mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut found = Vec::new();
        while !self.is_empty() {
            found.push(one(&mut self)?);
        }
        Some(found)
    }
}

fn parse_fields(mut texts: ReplyFields) -> Option<ScriptReply> {
    Some(match texts.text()?.as_str() {
        "newer" => ScriptReply::NewerProtocol(texts.text()?.parse().ok()?),
        "other-life" => ScriptReply::OtherLife,
        "told" => ScriptReply::Heartbeat(HeartbeatReply {
            log_end: texts.fence()?,
            longest_lease: texts.millis()?,
            settled: texts.flag()?,
        }),
        "issued" => ScriptReply::Issued(IssuedInvalidation {
            token: texts.fence()?,
            longest_lease: texts.millis()?,
            settled: texts.flag()?,
            registered_members: usize::try_from(texts.number()?).ok()?,
        }),
        "progress" => {
            ScriptReply::Progress { settled: texts.flag()?, laggards: parse_names(texts)? }
        }
        "too-old" => ScriptReply::LogTruncated(texts.fence()?),
        "log" => ScriptReply::Log { epoch: texts.epoch()?, entries: texts.all(parse_entry)? },
        "miss" => ScriptReply::Miss,
        "hit" => parse_hit(texts)?,
        "large" => ScriptReply::Large(texts.number()?),
        "done" => ScriptReply::Done(texts.flag()?),
        "held" => ScriptReply::HeldBy(MemberName(texts.text()?.into())),
        _ => return None,
    })
}

fn parse_names(texts: ReplyFields) -> Option<Vec<MemberName>> {
    let mut names = texts.all(|texts| texts.text().map(|name| MemberName(name.into())))?;
    names.sort_unstable();
    Some(names)
}

fn parse_entry(texts: &mut ReplyFields) -> Option<LogEntry> {
    Some(LogEntry { seq: texts.number()?, scopes: entry_format::parse_scopes(&texts.bytes()?) })
}

fn parse_hit(mut texts: ReplyFields) -> Option<ScriptReply> {
    let valid_up_to = texts.fence()?;
    let fence = Fence { epoch: valid_up_to.epoch, seq: texts.number()? };
    let ttl_left = texts.millis()?;
    let body = Arc::from(texts.bytes()?);
    let tags: Vec<Arc<str>> = texts.all(|texts| texts.text().map(Arc::from))?;
    if !are_valid_tags(&tags) {
        return None;
    }
    Some(ScriptReply::Hit(FetchedDataset {
        valid_up_to,
        ttl_left,
        dataset: TierDataset { fence, tags, body },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Value {
        Value::Array(texts.iter().map(|text| Value::BulkString(text.as_bytes().to_vec())).collect())
    }

    #[test]
    fn what_a_later_script_adds_to_its_answer_is_ignored() {
        let epoch = "0".repeat(32);
        let told = list(&["told", &epoch, "7", "3000", "1", "more"]);
        let Ok(ScriptReply::Heartbeat(told)) = parse_reply(told) else {
            panic!("no answer to a heartbeat")
        };
        assert_eq!(
            (told.log_end.seq, told.longest_lease, told.settled),
            (7, Duration::from_secs(3), true)
        );
    }

    #[test]
    fn what_is_cut_short_or_of_another_kind_is_not_read() {
        for odd in [
            list(&[]),
            list(&["told", "7"]),
            list(&["else"]),
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
        ] {
            assert_eq!(parse_reply(odd), Err(RedisFault::Unreadable));
        }
    }
}
