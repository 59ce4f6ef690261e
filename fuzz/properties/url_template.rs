//! Key substitution: whatever the key and the values of other parts are, each stays in its path
//! segment or query value.
//!
//! The fuzz target runs this on what it makes up; the tests replay its corpus with it. Input: one
//! byte whose bits say which places are query values, then the values, a line each; the first is
//! the key, the others are members of a part.

use bfb::domain::{Reference, SourceIndex, UrlPiece, UrlTemplate};
use bfb::sources::{Part, Reason, Validator, render};

/// More places than this say nothing new.
const PLACES_MAX: usize = 8;

/// Panics where the property does not hold.
pub(crate) fn holds(data: &[u8]) {
    let (&layout, rest) = data.split_first().unwrap_or((&0, &[]));
    let values: Vec<String> = rest
        .split(|byte| *byte == b'\n')
        .take(PLACES_MAX)
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect();
    let is_query = |place: usize| layout >> place & 1 == 1;
    let (queries, segments): (Vec<_>, Vec<_>) =
        (0..values.len()).partition(|place| is_query(*place));
    let template = template(&segments, &queries);

    let part = Part { json: object(&values).into(), validator: Validator::None };
    let has_dot_part =
        |value: &String| value.split(['/', '\\']).any(|part| matches!(part, "." | ".."));
    let refused = values
        .iter()
        .any(|value| value.is_empty() || value.contains(char::is_control) || has_dot_part(value));
    match render("orders", &template, &values[0], |_| ("profile", Some(&part))) {
        Ok(target) => {
            assert!(!refused, "a value that is empty, or could lead elsewhere, went in");
            assert!(target.as_str().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
            let expected: Vec<&str> =
                segments.iter().chain(&queries).map(|place| values[*place].as_str()).collect();
            assert_eq!(read_back(target.as_str(), segments.len()), expected);
        }
        Err(failure) => {
            assert_eq!(failure.reason, Reason::MissingReference);
            assert!(
                refused || values.iter().map(String::len).sum::<usize>() * 3 > 7_000,
                "{failure}"
            );
        }
    }

    // A part that is anything at all: any outcome will do, but no panic.
    let anything = Part { json: rest.to_vec().into(), validator: Validator::None };
    let _ = render("orders", &template, "key", |_| ("profile", Some(&anything)));
}

fn template(segments: &[usize], queries: &[usize]) -> UrlTemplate {
    let piece = |place: usize| {
        UrlPiece::Reference(if place == 0 {
            Reference::Key
        } else {
            Reference::Part { source: SourceIndex(0), path: vec![format!("m{place}")] }
        })
    };
    let mut pieces = vec![UrlPiece::Literal("/base".to_owned())];
    for place in segments {
        pieces.extend([UrlPiece::Literal("/".to_owned()), piece(*place)]);
    }
    for (nth, place) in queries.iter().enumerate() {
        pieces.extend([
            UrlPiece::Literal(if nth == 0 { "/end?q=" } else { "&q=" }.to_owned()),
            piece(*place),
        ]);
    }
    UrlTemplate { origin: "https://orders.shop".parse().expect("a URL"), pieces }
}

/// The values as members `m0`, `m1` …, every character escaped.
fn object(values: &[String]) -> Vec<u8> {
    let escaped = |value: &String| {
        value.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<_>>().concat()
    };
    let members: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(place, value)| format!("\"m{place}\":\"{}\"", escaped(value)))
        .collect();
    format!("{{{}}}", members.join(",")).into_bytes()
}

/// The values as a server finds them: split first, decoded then.
fn read_back(target: &str, segments: usize) -> Vec<String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut found: Vec<&str> =
        path.strip_prefix("/base").expect("the base").split('/').skip(1).collect();
    if found.len() > segments {
        assert_eq!(found.pop(), Some("end"));
        found.extend(query.split('&').map(|pair| pair.strip_prefix("q=").expect("a query value")));
    }
    found.into_iter().map(decoded).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut digit =
            || char::from(bytes.next().expect("two digits")).to_digit(16).expect("a hex digit");
        plain.push(if byte == b'%' {
            u8::try_from(digit() * 16 + digit()).expect("a byte")
        } else {
            byte
        });
    }
    String::from_utf8(plain).expect("UTF-8")
}
