//! Everything that is read of what stands in Redis, or of what a server answers: whatever the bytes
//! are, nothing panics, nothing is read beyond its bound, and the client library is handed no reply
//! that ends elsewhere than was counted.
//!
//! The first byte says what the others are taken for. The fuzz target runs this on what it makes
//! up; the tests replay its corpus with it, and damage it.

use std::collections::HashMap;
use std::path::Path;

use bfb::bus::{
    ReplyLimits, RespFrame, RespFrames, examine, parse_hint, parse_published, parse_reply,
};
use bfb::cache::decoded_weight;
use bfb::coherence::{InvalidationScope, ScriptReply, are_valid_scopes, are_valid_tags};
use bfb::domain::{Domain, World, parse};

const LIMITS: ReplyLimits = ReplyLimits { bytes: 4_096, elements: 200 };
/// What may be asked for to unpack a dataset, and to keep it.
const ROOM_MAX: u64 = 2 * 16 * 1024 * 1024;

/// Panics where the property does not hold; says whether the bytes were what they were taken for.
pub(crate) fn holds(data: &[u8]) -> bool {
    let Some((kind, data)) = data.split_first() else { return false };
    match kind % 5 {
        0 => replies(data),
        1 => parse_hint(data).inspect(|scopes| named(scopes)).is_some(),
        2 => parse_published(data)
            .inspect(|published| published.entries.iter().for_each(|entry| named(&entry.scopes)))
            .is_some(),
        3 => dataset(data),
        _ => registry(data),
    }
}

fn named(scopes: &[InvalidationScope]) {
    assert!(are_valid_scopes(scopes) && !scopes.is_empty());
}

/// The whole replies at the beginning of a stream.
fn replies(data: &[u8]) -> bool {
    let whole = frames(data, data.len().max(1));
    for size in [1, 2, 7] {
        assert_eq!(frames(data, size), whole, "it depends on how the bytes come");
    }
    let (frames, _) = whole;
    let mut rest = data;
    for frame in &frames {
        let (reply, others) = rest.split_at(usize::try_from(frame.bytes).unwrap_or(usize::MAX));
        rest = others;
        // With all of it, and none of what follows, the library knows what it is, or that it is
        // nothing.
        match redis::parse_redis_value(reply) {
            Ok(value) => {
                assert_eq!(matches!(value, redis::Value::Push { .. }), frame.is_push);
                let cut = redis::parse_redis_value(&reply[..reply.len() - 1]);
                assert!(cut.is_err(), "it ended before it was counted to end");
                judge(value);
            }
            Err(error) => assert!(
                !error.is_io_error(),
                "the library waits for more than was counted: {error}"
            ),
        }
    }
    !frames.is_empty()
}

fn frames(data: &[u8], size: usize) -> (Vec<RespFrame>, bool) {
    let mut frames = RespFrames::new(LIMITS);
    let mut found = Vec::new();
    for piece in data.chunks(size) {
        let fed = frames.feed(piece, |frame| {
            assert!(frame.bytes <= LIMITS.bytes);
            found.push(frame);
            Ok(())
        });
        if fed.is_err() {
            return (found, false);
        }
    }
    (found, true)
}

fn judge(value: redis::Value) {
    match parse_reply(value) {
        Ok(ScriptReply::Hit(fetched)) => assert!(are_valid_tags(&fetched.dataset.tags)),
        Ok(ScriptReply::Log { entries, .. }) => {
            for entry in entries {
                named(&entry.scopes);
            }
        }
        _ => {}
    }
}

fn dataset(data: &[u8]) -> bool {
    let mut asked = 0;
    let weight = decoded_weight(data, &domain(), |bytes| {
        asked = bytes;
        assert!(bytes <= ROOM_MAX, "{bytes} bytes for {}", data.len());
        bytes <= 1 << 20
    });
    // What is kept beside the bytes: a line for each part.
    assert!(
        weight.is_none_or(|weight| weight as u64 <= asked + 8_192),
        "{weight:?} of {asked} bytes"
    );
    weight.is_some()
}

fn domain() -> Domain {
    let text = "domain: customer\nsources:\n  profile: {url: 'http://a/{key}'}\n\
        \x20 orders: {url: 'http://b/{key}'}\n\
        versions:\n  v1: {path: '/v1/customers/{key}'}\n";
    let world = World {
        variable: &|_| None,
        read: &|_| Err(std::io::ErrorKind::NotFound.into()),
        program: &|_| Ok(()),
        allow_http: true,
        allow_https: true,
    };
    parse(Path::new("customer.yaml"), text, world).unwrap()
}

/// Pairs of lines, as the fields of a log's hash.
fn registry(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    let mut meta = HashMap::new();
    while let (Some(field), Some(value)) = (lines.next(), lines.next()) {
        meta.insert(field.to_owned(), value.to_owned());
    }
    let log = examine::LogStatus::read(&meta, Some("a/b"));
    assert!(log.as_ref().is_none_or(|log| log.registered.len() <= meta.len()));
    log.is_some()
}
