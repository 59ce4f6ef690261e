//! From the references of a source to the target of one request: a URL's, or the values of a
//! statement.
//!
//! In a URL no value can leave its path segment or its query value. Every byte of a value that
//! is not unreserved (RFC 3986, section 2.3) is percent-encoded. A value that is no scalar is
//! refused, and one that could lead elsewhere once a proxy has decoded it; so is a target
//! longer than [`TARGET_MAX`]. A part is walked member by member in its raw JSON.

use std::borrow::Cow;

use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Part, Reason, SourceError};
use crate::domain::{
    MongoParameter, Reference, Source, SourceIndex, SourceKind, UrlPiece, UrlTemplate, check_value,
    encode_value, has_dot_part,
};

/// The longest request target, in bytes: common servers accept at least as much.
const TARGET_MAX: usize = 8_000;

/// The target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestTarget {
    /// The path and query of a URL.
    Url(PathAndQuery),
    /// The values of a statement's parameters, in their order.
    Values(Vec<String>),
}

impl RequestTarget {
    /// The path and query, if it is a URL's.
    pub fn as_url(&self) -> Option<&PathAndQuery> {
        match self {
            Self::Url(target) => Some(target),
            Self::Values(_) => None,
        }
    }
}

/// Renders the target of a request to `source`.
///
/// `part` returns a source's name and, if it has one, its part.
pub fn render_target<'p>(
    source: &Source,
    key: &str,
    part: impl Fn(SourceIndex) -> (&'p str, Option<&'p Part>),
) -> Result<RequestTarget, SourceError> {
    match &source.kind {
        SourceKind::Http(http) => {
            render(&source.name, &http.url, key, part).map(RequestTarget::Url)
        }
        SourceKind::Postgres(postgres) => {
            let values = Values { source: &source.name, key, place: "the statement", part };
            let parameters = postgres.query.parameters.iter();
            parameters
                .map(|it| values.bound(it))
                .collect::<Result<_, _>>()
                .map(RequestTarget::Values)
        }
        SourceKind::Mongo(mongo) => {
            let values = Values { source: &source.name, key, place: "the query", part };
            let parameters = mongo.parameters.iter();
            parameters
                .map(|it| values.converted(it))
                .collect::<Result<_, _>>()
                .map(RequestTarget::Values)
        }
    }
}

/// Renders a URL's target: percent-encodes the key and the referenced scalars so that none can
/// leave its place.
///
/// `part` returns a source's name and, if it has one, its part. `source` is the source whose target
/// this is, for the error.
pub fn render<'p>(
    source: &str,
    template: &UrlTemplate,
    key: &str,
    part: impl Fn(SourceIndex) -> (&'p str, Option<&'p Part>),
) -> Result<PathAndQuery, SourceError> {
    let values = Values { source, key, place: "the URL", part };
    let mut target = String::new();
    for piece in &template.pieces {
        match piece {
            UrlPiece::Literal(text) => target.push_str(text),
            UrlPiece::Reference(reference) => {
                let value = values.find(reference)?;
                append_encoded(&mut target, &value)
                    .map_err(|found| values.unfit(reference, found, "cannot go into a URL"))?;
            }
        }
    }
    if joins_to_dot_part(&target) {
        let detail =
            "a value and what stands beside it in the URL's path make a part that is `.` or `..`";
        return Err(values.failure(detail.to_owned()));
    }
    let too_long = target.len() > TARGET_MAX;
    match PathAndQuery::try_from(target) {
        Ok(target) if !too_long => Ok(target),
        _ => Err(values.failure(format!(
            "the URL would be longer than {TARGET_MAX} bytes, or one that cannot be sent"
        ))),
    }
}

/// The values of references.
struct Values<'v, F> {
    /// The source whose target is rendered, for errors.
    source: &'v str,
    key: &'v str,
    /// Where the values go, in words.
    place: &'v str,
    part: F,
}

impl<'v, 'p: 'v, F: Fn(SourceIndex) -> (&'p str, Option<&'p Part>)> Values<'v, F> {
    /// The text that a reference stands for.
    fn find(&self, reference: &Reference) -> Result<Cow<'v, str>, SourceError> {
        let Reference::Part { source, path } = reference else { return Ok(self.key.into()) };
        let (_, part) = (self.part)(*source);
        let value =
            part.ok_or("has no part to come from").and_then(|part| find_scalar(&part.json, path));
        value.map_err(|found| {
            let name = self.name(reference);
            let place = self.place;
            self.failure(format!(
                "`{{{name}}}` {found}, {place} needs a string, a number or a boolean"
            ))
        })
    }

    /// The same as a bound value of a statement, which may be any text but one with a NUL.
    fn bound(&self, reference: &Reference) -> Result<String, SourceError> {
        const FIT: &str = "cannot be a bound value";
        let value = self.find(reference)?;
        if value.contains('\0') {
            return Err(self.unfit(reference, "holds a NUL", FIT));
        }
        if value.len() > TARGET_MAX {
            return Err(self.unfit(reference, "is longer than 8000 bytes", FIT));
        }
        Ok(value.into_owned())
    }

    /// The same as a value of a MongoDB query, which a conversion takes.
    fn converted(&self, parameter: &MongoParameter) -> Result<String, SourceError> {
        let MongoParameter { reference, conversion } = parameter;
        let value = self.find(reference)?;
        if value.len() > TARGET_MAX {
            let found = "is longer than 8000 bytes";
            return Err(self.unfit(reference, found, "cannot be a bound value"));
        }
        if conversion.convert(&value).is_some() {
            return Ok(value.into_owned());
        }
        let expected = conversion.describe();
        if *reference == Reference::Key {
            let detail = format!("the key is of another type than the query has: {expected}");
            return Err(SourceError { reason: Reason::BadKey, ..self.failure(detail) });
        }
        let name = self.name(reference);
        Err(self.failure(format!("`{{{name}}}` is not {expected}, as the query needs")))
    }

    fn name(&self, reference: &Reference) -> String {
        match reference {
            Reference::Key => "key".to_owned(),
            Reference::Part { source, path } => {
                format!("{}.{}", (self.part)(*source).0, path.join("."))
            }
        }
    }

    fn unfit(&self, reference: &Reference, found: &str, consequence: &str) -> SourceError {
        self.failure(format!("`{{{}}}` {found}, which {consequence}", self.name(reference)))
    }

    fn failure(&self, detail: String) -> SourceError {
        let reason = Reason::MissingReference;
        SourceError {
            source_name: self.source.into(),
            reason,
            detail,
            retry: false,
            retry_after: None,
        }
    }
}

fn append_encoded(target: &mut String, value: &str) -> Result<(), &'static str> {
    check_value(value)?;
    if value.len() > TARGET_MAX {
        return Err("is longer than 8000 bytes");
    }
    target.extend(encode_value(value));
    Ok(())
}

/// Whether a decoded segment has a part that is `.` or `..`. No value has one of its own, but
/// `..{key}` has one with the key `/admin`.
fn joins_to_dot_part(target: &str) -> bool {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let mut mixed = path.split('/').filter(|segment| segment.contains('%'));
    mixed.any(|segment| has_dot_part(&percent_decode_str(segment).decode_utf8_lossy()))
}

/// The scalar at `path` in a valid JSON text, as it goes into a URL: strings unescaped, numbers as
/// written.
fn find_scalar<'j>(json: &'j [u8], path: &[String]) -> Result<Cow<'j, str>, &'static str> {
    let mut here = std::str::from_utf8(json).map_err(|_| "is in a part that is no JSON")?;
    for name in path {
        here = match describe_kind(here) {
            "is an object" => find_member(here, name)?.ok_or("is missing")?,
            other => return Err(describe_dead_end(other)),
        };
    }
    match describe_kind(here) {
        "is a string" => serde_json::from_str::<String>(here)
            .map(Cow::Owned)
            .map_err(|_| "is a string that is no Unicode"),
        "is a number" | "is a boolean" => Ok(Cow::Borrowed(here)),
        other => Err(other),
    }
}

/// The kind of a JSON text, by its first byte.
fn describe_kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "is an object",
        Some(b'[') => "is an array",
        Some(b'"') => "is a string",
        Some(b't' | b'f') => "is a boolean",
        Some(b'n') => "is null",
        _ => "is a number",
    }
}

fn describe_dead_end(kind: &'static str) -> &'static str {
    match kind {
        "is an array" => "leads into an array",
        "is null" => "leads into a null",
        _ => "leads into a scalar",
    }
}

/// A member of an object. Of duplicates the last one counts, as in jq.
fn find_member<'j>(object: &'j str, name: &str) -> Result<Option<&'j str>, &'static str> {
    struct WantedMember<'n>(&'n str);
    impl<'j> Visitor<'j> for WantedMember<'_> {
        type Value = Option<&'j RawValue>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(name) = map.next_key::<Cow<'j, str>>()? {
                if name == self.0 {
                    found = Some(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }
    let found = serde_json::Deserializer::from_str(object).deserialize_map(WantedMember(name));
    Ok(found.map_err(|_| "is in an object whose names are no Unicode")?.map(RawValue::get))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::sources::Validator;

    fn literal(text: &str) -> UrlPiece {
        UrlPiece::Literal(text.into())
    }

    fn reference(path: &[&str]) -> UrlPiece {
        let path = path.iter().map(ToString::to_string).collect();
        UrlPiece::Reference(Reference::Part { source: SourceIndex(0), path })
    }

    fn rendered(pieces: Vec<UrlPiece>, key: &str, json: Option<&str>) -> Result<String, String> {
        let part =
            json.map(|json| Part { json: json.to_owned().into(), validator: Validator::None });
        let template = UrlTemplate { origin: "https://orders.shop".parse().unwrap(), pieces };
        let target = render("orders", &template, key, |_| ("profile", part.as_ref()));
        target.map(|target| target.to_string()).map_err(|failure| {
            assert_eq!(
                (failure.reason, &*failure.source_name),
                (Reason::MissingReference, "orders")
            );
            failure.detail
        })
    }

    #[test]
    fn a_key_is_encoded_to_the_unreserved() {
        let target = rendered(
            vec![
                literal("/c/"),
                UrlPiece::Reference(Reference::Key),
                literal("/o?q="),
                UrlPiece::Reference(Reference::Key),
            ],
            "a/b?é&=%2f+~ ;",
            None,
        );
        let encoded = "a%2Fb%3F%C3%A9%26%3D%252f%2B~%20%3B";
        assert_eq!(target.unwrap(), format!("/c/{encoded}/o?q={encoded}"));
    }

    #[test]
    fn scalars_go_in_as_they_are_written() {
        for (json, expected) in [
            (r#"{"a":1e3}"#, "1e3"),
            (r#"{"a":-0.10}"#, "-0.10"),
            (r#"{"a":12345678901234567890123}"#, "12345678901234567890123"),
            (r#"{"a":true}"#, "true"),
            (r#"{"a":"x\u002fy\u005c"}"#, "x%2Fy%5C"),
            (r#"{"a":1,"b":{"a":9},"a":2}"#, "2"),
            (r#"{"\u0061" : 3}"#, "3"),
        ] {
            assert_eq!(
                rendered(vec![literal("/"), reference(&["a"])], "k", Some(json)).unwrap(),
                format!("/{expected}")
            );
        }
        let deep = r#"{"a":{"b":[],"c":{"d":7}}}"#;
        assert_eq!(
            rendered(vec![literal("/"), reference(&["a", "c", "d"])], "k", Some(deep)).unwrap(),
            "/7"
        );
    }

    #[test]
    fn what_is_missing_or_no_scalar_is_named_with_what_was_found() {
        for (json, found) in [
            (Some(r"{}"), "is missing"),
            (Some(r#"{"a":"secret"}"#), "leads into a scalar"),
            (Some(r#"{"a":null}"#), "leads into a null"),
            (Some(r#"{"a":[{"b":1}]}"#), "leads into an array"),
            (Some(r#"{"a":{"b":null}}"#), "is null"),
            (Some(r#"{"a":{"b":{}}}"#), "is an object"),
            (Some(r#"{"a":{"b":[1]}}"#), "is an array"),
            (Some(r#"{"a":{"b":"\ud800"}}"#), "is a string that is no Unicode"),
            (Some("[]"), "leads into an array"),
            (None, "has no part to come from"),
        ] {
            let detail =
                rendered(vec![literal("/"), reference(&["a", "b"])], "k", json).unwrap_err();
            assert_eq!(
                detail,
                format!("`{{profile.a.b}}` {found}, the URL needs a string, a number or a boolean")
            );
        }
    }

    #[test]
    fn a_key_that_could_move_in_the_path_is_refused() {
        for key in ["", ".", "..", "../admin", "a\\..", "a/./b", "a\n"] {
            let detail =
                rendered(vec![literal("/c/"), UrlPiece::Reference(Reference::Key)], key, None)
                    .unwrap_err();
            assert!(
                detail.starts_with("`{key}` ") && detail.ends_with("which cannot go into a URL"),
                "{detail}"
            );
            let detail =
                rendered(vec![literal("/c?q="), UrlPiece::Reference(Reference::Key)], key, None)
                    .unwrap_err();
            assert!(detail.starts_with("`{key}` "), "in a query value too: {detail}");
            let json = serde_json::json!({"a": key}).to_string();
            let detail =
                rendered(vec![literal("/c/"), reference(&["a"])], "k", Some(&json)).unwrap_err();
            assert!(detail.starts_with("`{profile.a}` "), "{detail}");
        }
    }

    #[test]
    fn a_value_that_makes_a_dot_part_with_what_stands_beside_it_is_refused() {
        for (before, after, key) in [
            ("/c/..", "", "/admin"),
            ("/c/.", "", "\\x"),
            ("/c/", "..", "x/"),
            ("/c/a/", ".?q=1", "x/.y/"),
        ] {
            let detail = rendered(
                vec![literal(before), UrlPiece::Reference(Reference::Key), literal(after)],
                key,
                None,
            )
            .unwrap_err();
            assert!(detail.contains("what stands beside it"), "{detail}");
        }
        let json = r#"{"a":"x/","b":"."}"#;
        for pieces in [
            vec![literal("/."), reference(&["a"])],
            vec![literal("/"), reference(&["a"]), literal("..")],
        ] {
            assert_eq!(
                rendered(pieces.clone(), "k", Some(json)).is_err(),
                pieces.len() == 3,
                "{pieces:?}"
            );
        }
        assert_eq!(
            rendered(vec![literal("/..a?q=.."), UrlPiece::Reference(Reference::Key)], "/x", None)
                .unwrap(),
            "/..a?q=..%2Fx"
        );
        assert_eq!(
            rendered(vec![literal("/"), UrlPiece::Reference(Reference::Key)], "...", None).unwrap(),
            "/..."
        );
    }

    #[test]
    fn a_target_is_bounded() {
        let long = format!(r#"{{"a":"{}"}}"#, "é".repeat(3_000));
        assert!(
            rendered(vec![literal("/"), reference(&["a"])], "k", Some(&long))
                .unwrap_err()
                .contains("longer than")
        );
    }

    /// A value in a place of its own: a segment or a query value.
    fn place() -> impl Strategy<Value = (String, bool)> {
        (any::<String>(), any::<bool>())
            .prop_filter("refused", |(v, _)| check_value(v).is_ok() && v.len() < 200)
    }

    proptest! {
        #[test]
        fn whatever_goes_in_stays_in_its_place(places in proptest::collection::vec(place(), 1..5)) {
            let (queries, segments): (Vec<_>, Vec<_>) =
                places.into_iter().partition(|(_, is_query)| *is_query);
            let places = segments.iter().chain(&queries);
            let values: Vec<_> = places.map(|(value, _)| value.as_str()).collect();
            let members = values.iter().enumerate().map(|(i, value)| (format!("m{i}"), *value));
            let members: BTreeMap<_, _> = members.collect();
            let json = serde_json::to_string(&members).unwrap();
            let mut pieces = vec![literal("/base")];
            for i in 0..values.len() {
                let before = match i.cmp(&segments.len()) {
                    std::cmp::Ordering::Less => "/",
                    std::cmp::Ordering::Equal => "/end?q=",
                    std::cmp::Ordering::Greater => "&q=",
                };
                pieces.extend([literal(before), reference(&[&format!("m{i}")])]);
            }
            let target = rendered(pieces, "k", Some(&json)).unwrap();
            prop_assert!(target.bytes().all(|b| b.is_ascii_graphic() && b != b'#'));
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            let mut found: Vec<_> = path.split('/').skip(2).map(str::to_owned).collect();
            if !queries.is_empty() {
                prop_assert_eq!(found.pop().unwrap(), "end");
                let values = query.split('&').map(|pair| pair.strip_prefix("q=").unwrap());
                found.extend(values.map(str::to_owned));
            }
            let decode = |text: &String| {
                percent_decode_str(text).decode_utf8().unwrap().into_owned()
            };
            let decoded: Vec<_> = found.iter().map(decode).collect();
            prop_assert_eq!(decoded, values);
        }
    }
}
