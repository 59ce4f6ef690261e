//! Parses the replies of the scripts: lists of texts, of which the first names the kind of reply.
//! Fields beyond those known here are ignored, so that a newer script may add some.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::entry_format;
use super::fault::RedisFault;
use crate::coherence::{
    Epoch, Fence, FetchedDataset, HeartbeatReply, IssuedInvalidation, LogEntry, MemberName,
    ScriptReply, TierDataset, are_valid_tags,
};

/// Parses a script's reply.
pub fn parse_reply(value: Value) -> Result<ScriptReply, RedisFault> {
    let Value::Array(items) = value else { return Err(RedisFault::Unreadable) };
    parse_fields(ReplyFields { items: items.into_iter() }).ok_or(RedisFault::Unreadable)
}

/// The fields of a reply, taken one after the other.
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
        let mut values = Vec::new();
        while !self.is_empty() {
            values.push(one(&mut self)?);
        }
        Some(values)
    }
}

fn parse_fields(mut fields: ReplyFields) -> Option<ScriptReply> {
    Some(match fields.text()?.as_str() {
        "newer" => ScriptReply::NewerProtocol(fields.text()?.parse().ok()?),
        "other-life" => ScriptReply::OtherLife,
        "told" => ScriptReply::Heartbeat(HeartbeatReply {
            log_end: fields.fence()?,
            longest_lease: fields.millis()?,
            settled: fields.flag()?,
            store_mark: None,
        }),
        "issued" => ScriptReply::Issued(IssuedInvalidation {
            token: fields.fence()?,
            longest_lease: fields.millis()?,
            settled: fields.flag()?,
            registered_members: usize::try_from(fields.number()?).ok()?,
            stores: Vec::new(),
        }),
        "progress" => ScriptReply::Progress {
            settled: fields.flag()?,
            laggards: parse_names(fields)?,
            stores: Vec::new(),
        },
        "too-old" => ScriptReply::LogTruncated(fields.fence()?),
        "log" => ScriptReply::Log { epoch: fields.epoch()?, entries: fields.all(parse_entry)? },
        "miss" => ScriptReply::Miss,
        "hit" => parse_hit(fields)?,
        "large" => ScriptReply::Large(fields.number()?),
        "done" => ScriptReply::Done(fields.flag()?),
        "held" => ScriptReply::HeldBy(MemberName(fields.text()?.into())),
        _ => return None,
    })
}

fn parse_names(fields: ReplyFields) -> Option<Vec<MemberName>> {
    let mut names = fields.all(|fields| fields.text().map(|name| MemberName(name.into())))?;
    names.sort_unstable();
    Some(names)
}

fn parse_entry(fields: &mut ReplyFields) -> Option<LogEntry> {
    Some(LogEntry { seq: fields.number()?, scopes: entry_format::parse_scopes(&fields.bytes()?) })
}

fn parse_hit(mut fields: ReplyFields) -> Option<ScriptReply> {
    let valid_up_to = fields.fence()?;
    let fence = Fence { epoch: valid_up_to.epoch, seq: fields.number()? };
    let ttl_left = fields.millis()?;
    let body = Arc::from(fields.bytes()?);
    let tags: Vec<Arc<str>> = fields.all(|fields| fields.text().map(Arc::from))?;
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
        let reply = list(&["told", &epoch, "7", "3000", "1", "more"]);
        let Ok(ScriptReply::Heartbeat(reply)) = parse_reply(reply) else {
            panic!("no answer to a heartbeat")
        };
        assert_eq!(
            (reply.log_end.seq, reply.longest_lease, reply.settled),
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
