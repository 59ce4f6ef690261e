//! What the scripts answer: a list of texts, of which the first says what it is. What follows
//! beyond what is known here is ignored.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::fault::Fault;
use super::format;
use crate::coherence::{
    Answer, Entry, Epoch, Fence, Fetched, Issued, Name, Stored, Told, are_tags,
};

/// Reads a script's answer.
pub fn answer(value: Value) -> Result<Answer, Fault> {
    let Value::Array(items) = value else { return Err(Fault::Unreadable) };
    read(Texts { items: items.into_iter() }).ok_or(Fault::Unreadable)
}

/// The texts of an answer, one after the other.
struct Texts {
    items: std::vec::IntoIter<Value>,
}

impl Texts {
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
        format::epoch(&self.text()?)
    }

    fn fence(&mut self) -> Option<Fence> {
        Some(Fence { epoch: self.epoch()?, seq: self.number()? })
    }

    fn millis(&mut self) -> Option<Duration> {
        self.number().map(Duration::from_millis)
    }

    fn is_over(&self) -> bool {
        self.items.len() == 0
    }

    fn all<T>(mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut found = Vec::new();
        while !self.is_over() {
            found.push(one(&mut self)?);
        }
        Some(found)
    }
}

fn read(mut texts: Texts) -> Option<Answer> {
    Some(match texts.text()?.as_str() {
        "newer" => Answer::Newer(texts.text()?.parse().ok()?),
        "other-life" => Answer::OtherLife,
        "told" => Answer::Told(Told {
            end: texts.fence()?,
            longest: texts.millis()?,
            settled: texts.flag()?,
        }),
        "issued" => Answer::Issued(Issued {
            token: texts.fence()?,
            longest: texts.millis()?,
            settled: texts.flag()?,
            registered: usize::try_from(texts.number()?).ok()?,
        }),
        "progress" => Answer::Progress { settled: texts.flag()?, behind: names(texts)? },
        "too-old" => Answer::TooOld(texts.fence()?),
        "log" => Answer::Log { epoch: texts.epoch()?, entries: texts.all(entry)? },
        "miss" => Answer::Miss,
        "hit" => hit(texts)?,
        "large" => Answer::Large(texts.number()?),
        "done" => Answer::Done(texts.flag()?),
        "held" => Answer::Held(Name(texts.text()?.into())),
        _ => return None,
    })
}

fn names(texts: Texts) -> Option<Vec<Name>> {
    let mut names = texts.all(|texts| texts.text().map(|name| Name(name.into())))?;
    names.sort_unstable();
    Some(names)
}

fn entry(texts: &mut Texts) -> Option<Entry> {
    Some(Entry { seq: texts.number()?, scopes: format::scopes(&texts.bytes()?) })
}

fn hit(mut texts: Texts) -> Option<Answer> {
    let vouched = texts.fence()?;
    let fence = Fence { epoch: vouched.epoch, seq: texts.number()? };
    let left = texts.millis()?;
    let body = Arc::from(texts.bytes()?);
    let tags: Vec<Arc<str>> = texts.all(|texts| texts.text().map(Arc::from))?;
    if !are_tags(&tags) {
        return None;
    }
    Some(Answer::Hit(Fetched { vouched, left, dataset: Stored { fence, tags, body } }))
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
        let Ok(Answer::Told(told)) = answer(told) else { panic!("no answer to a heartbeat") };
        assert_eq!((told.end.seq, told.longest, told.settled), (7, Duration::from_secs(3), true));
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
            assert_eq!(answer(odd), Err(Fault::Unreadable));
        }
    }
}
