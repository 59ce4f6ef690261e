//! From BSON to JSON: what of a document has a plain JSON form, with all its digits.
//!
//! The form of each type is in the documentation (`docs/domain-file.md`). Nothing is lost quietly:
//! what has no form is an error that names its path.

use std::fmt::Write as _;

use mongodb::bson::{Binary, DateTime, RawArray, RawBsonRef, RawDocument};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::sources::json::MAX_DEPTH;

/// The longest path that a message shows, in bytes.
const PATH_BYTES_MAX: usize = 200;

/// Why a document has no JSON text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JsonError {
    /// The text would be longer than it may.
    TooLarge,
    /// A value has no JSON form: in words, and in the path to it.
    NoForm(String),
}

/// Writes a document behind what is in `text` already, which may grow to `bytes_max`.
pub(super) fn write_document(
    document: &RawDocument,
    text: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), JsonError> {
    let mut writer = JsonWriter { text, bytes_max };
    writer.document(document, 1).map_err(|failure| match failure {
        Failure::TooLarge => JsonError::TooLarge,
        Failure::NoForm { found, path } => JsonError::NoForm(describe(&found, &path)),
    })
}

/// A failure on its way up; each level adds its step to the path, the last one first.
enum Failure {
    TooLarge,
    NoForm { found: String, path: Vec<Step> },
}

enum Step {
    Field(String),
    Item(usize),
}

impl Failure {
    fn no_form(found: impl Into<String>) -> Self {
        Self::NoForm { found: found.into(), path: Vec::new() }
    }

    fn below(mut self, step: impl FnOnce() -> Step) -> Self {
        if let Self::NoForm { path, .. } = &mut self {
            path.push(step());
        }
        self
    }
}

fn describe(found: &str, path: &[Step]) -> String {
    let mut shown = String::new();
    for step in path.iter().rev() {
        let _ = match step {
            Step::Field(name) if shown.is_empty() => write!(shown, "{}", name.escape_debug()),
            Step::Field(name) => write!(shown, ".{}", name.escape_debug()),
            Step::Item(index) => write!(shown, "[{index}]"),
        };
    }
    if shown.len() > PATH_BYTES_MAX {
        shown.truncate(shown.floor_char_boundary(PATH_BYTES_MAX));
        shown.push('…');
    }
    if shown.is_empty() {
        format!("has a document that is {found}")
    } else {
        format!("has at `{shown}` {found}, expected what JSON has a form for")
    }
}

struct JsonWriter<'t> {
    text: &'t mut Vec<u8>,
    bytes_max: usize,
}

impl JsonWriter<'_> {
    fn document(&mut self, document: &RawDocument, depth: usize) -> Result<(), Failure> {
        check_depth(depth)?;
        self.push(b"{")?;
        let mut is_first = true;
        for element in document {
            let (name, value) = element.map_err(|_| broken())?;
            if !is_first {
                self.push(b",")?;
            }
            is_first = false;
            let name = name.as_str();
            self.string(name)?;
            self.push(b":")?;
            self.value(value, depth).map_err(|it| it.below(|| Step::Field(name.to_owned())))?;
        }
        self.push(b"}")
    }

    fn array(&mut self, array: &RawArray, depth: usize) -> Result<(), Failure> {
        check_depth(depth)?;
        self.push(b"[")?;
        for (index, value) in array.into_iter().enumerate() {
            if index > 0 {
                self.push(b",")?;
            }
            let value = value.map_err(|_| broken().below(|| Step::Item(index)))?;
            self.value(value, depth).map_err(|failure| failure.below(|| Step::Item(index)))?;
        }
        self.push(b"]")
    }

    fn value(&mut self, value: RawBsonRef<'_>, depth: usize) -> Result<(), Failure> {
        match value {
            RawBsonRef::Null => self.push(b"null"),
            RawBsonRef::Boolean(true) => self.push(b"true"),
            RawBsonRef::Boolean(false) => self.push(b"false"),
            RawBsonRef::Int32(number) => self.push(number.to_string().as_bytes()),
            RawBsonRef::Int64(number) => self.push(number.to_string().as_bytes()),
            RawBsonRef::Double(number) => self.double(number),
            RawBsonRef::Decimal128(number) => self.decimal(&number.to_string()),
            RawBsonRef::String(text) => self.string(text),
            RawBsonRef::ObjectId(id) => self.string(&id.to_hex()),
            RawBsonRef::DateTime(date) => self.string(&date_text(date)?),
            RawBsonRef::Binary(binary) => self.string(&binary_text(&binary.to_binary())),
            RawBsonRef::Document(document) => self.document(document, depth + 1),
            RawBsonRef::Array(array) => self.array(array, depth + 1),
            RawBsonRef::Timestamp(_) => Err(Failure::no_form("a timestamp")),
            RawBsonRef::RegularExpression(_) => Err(Failure::no_form("a regular expression")),
            RawBsonRef::JavaScriptCode(_) | RawBsonRef::JavaScriptCodeWithScope(_) => {
                Err(Failure::no_form("code"))
            }
            RawBsonRef::Symbol(_) => Err(Failure::no_form("a symbol")),
            RawBsonRef::Undefined => Err(Failure::no_form("an undefined value")),
            RawBsonRef::MaxKey => Err(Failure::no_form("a max key")),
            RawBsonRef::MinKey => Err(Failure::no_form("a min key")),
            RawBsonRef::DbPointer(_) => Err(Failure::no_form("a database pointer")),
        }
    }

    /// The shortest text that is this number and no other.
    fn double(&mut self, number: f64) -> Result<(), Failure> {
        if number.is_nan() {
            return Err(Failure::no_form("NaN"));
        }
        if number.is_infinite() {
            return Err(Failure::no_form("an infinity"));
        }
        let text = serde_json::to_string(&number).map_err(|_| broken())?;
        self.push(text.as_bytes())
    }

    /// Its text is a JSON number, if it is one.
    fn decimal(&mut self, text: &str) -> Result<(), Failure> {
        if text.contains("NaN") {
            return Err(Failure::no_form("NaN"));
        }
        if text.contains("Infinity") {
            return Err(Failure::no_form("an infinity"));
        }
        self.push(text.as_bytes())
    }

    fn string(&mut self, text: &str) -> Result<(), Failure> {
        if text.len() + 2 > self.bytes_max.saturating_sub(self.text.len()) {
            return Err(Failure::TooLarge);
        }
        serde_json::to_writer(&mut *self.text, text).map_err(|_| broken())?;
        if self.text.len() > self.bytes_max { Err(Failure::TooLarge) } else { Ok(()) }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.len() > self.bytes_max.saturating_sub(self.text.len()) {
            return Err(Failure::TooLarge);
        }
        self.text.extend_from_slice(bytes);
        Ok(())
    }
}

fn check_depth(depth: usize) -> Result<(), Failure> {
    if depth > MAX_DEPTH {
        return Err(Failure::no_form(format!("more than {MAX_DEPTH} levels")));
    }
    Ok(())
}

fn broken() -> Failure {
    Failure::no_form("what is no BSON, or no UTF-8")
}

/// RFC 3339 in UTC, always with milliseconds: such texts sort as the dates do.
fn date_text(date: DateTime) -> Result<String, Failure> {
    let outside = || Failure::no_form("a date outside of the years 1 to 9999");
    let nanoseconds = i128::from(date.timestamp_millis()) * 1_000_000;
    let date = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).map_err(|_| outside())?;
    if !(1..=9999).contains(&date.year()) {
        return Err(outside());
    }
    let form =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    date.format(form).map_err(|_| outside())
}

/// Base64, whatever the subtype is: a UUID too.
fn binary_text(binary: &Binary) -> String {
    data_encoding::BASE64.encode(&binary.bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::spec::BinarySubtype;
    use mongodb::bson::{
        Bson, Decimal128, Document, JavaScriptCodeWithScope, RawDocumentBuf, Regex, Timestamp, doc,
    };

    use super::*;

    fn written(document: &Document) -> Result<String, JsonError> {
        let raw = RawDocumentBuf::try_from(document).unwrap();
        let mut text = Vec::new();
        write_document(&raw, &mut text, 1 << 20)?;
        Ok(String::from_utf8(text).unwrap())
    }

    fn value(value: impl Into<Bson>) -> Result<String, JsonError> {
        let text = written(&doc! {"v": value.into()})?;
        Ok(text.strip_prefix("{\"v\":").unwrap().strip_suffix('}').unwrap().to_owned())
    }

    fn decimal(text: &str) -> Decimal128 {
        text.parse().unwrap()
    }

    fn binary(subtype: BinarySubtype, bytes: &[u8]) -> Binary {
        Binary { subtype, bytes: bytes.to_vec() }
    }

    #[test]
    fn values_keep_all_their_digits() {
        for (found, expected) in [
            (value(Bson::Null), "null"),
            (value(true), "true"),
            (value(-7), "-7"),
            (value(i64::MAX), "9223372036854775807"),
            (value(i64::MIN), "-9223372036854775808"),
            (value(0.1), "0.1"),
            (value(-0.0), "-0.0"),
            (value(5.0), "5.0"),
            (value(1e300), "1e+300"),
            (value(5e-324), "5e-324"),
            (value(decimal("1.500")), "1.500"),
            (value(decimal("1E+3")), "1E+3"),
            (value(decimal("-0.000001234567890123456789012345678901234")), ""),
            (value("a\"\\\n\u{0}é"), r#""a\"\\\n\u0000é""#),
            (value(ObjectId::from_bytes([255; 12])), "\"ffffffffffffffffffffffff\""),
            (value(DateTime::from_millis(0)), "\"1970-01-01T00:00:00.000Z\""),
            (value(DateTime::from_millis(-1)), "\"1969-12-31T23:59:59.999Z\""),
            (value(DateTime::from_millis(-62_135_596_800_000)), "\"0001-01-01T00:00:00.000Z\""),
            (value(DateTime::from_millis(253_402_300_799_999)), "\"9999-12-31T23:59:59.999Z\""),
            (value(binary(BinarySubtype::Generic, b"\xfb\xff")), "\"+/8=\""),
            (value(binary(BinarySubtype::UserDefined(128), b"a")), "\"YQ==\""),
            (value(binary(BinarySubtype::Uuid, &[0xab; 16])), "\"q6urq6urq6urq6urq6urqw==\""),
            (value(binary(BinarySubtype::Uuid, b"a")), "\"YQ==\""),
            (value(vec![Bson::Int32(1), Bson::Document(doc! {"a": []})]), "[1,{\"a\":[]}]"),
        ] {
            let found = found.unwrap();
            assert!(found == expected || expected.is_empty(), "{found} {expected}");
            serde_json::from_str::<serde_json::Value>(&found).unwrap();
        }
    }

    #[test]
    fn what_has_no_form_is_named_by_its_path() {
        for (no_form, named) in [
            (Bson::Double(f64::NAN), "NaN"),
            (Bson::Double(f64::NEG_INFINITY), "an infinity"),
            (Bson::Decimal128(decimal("NaN")), "NaN"),
            (Bson::Decimal128(decimal("-Infinity")), "an infinity"),
            (Bson::DateTime(DateTime::from_millis(-62_135_596_800_001)), "a date outside"),
            (Bson::DateTime(DateTime::from_millis(253_402_300_800_000)), "a date outside"),
            (Bson::DateTime(DateTime::from_millis(i64::MIN)), "a date outside"),
            (Bson::Timestamp(Timestamp { time: 1, increment: 1 }), "a timestamp"),
            (
                Bson::RegularExpression(Regex {
                    pattern: "a".try_into().unwrap(),
                    options: "i".try_into().unwrap(),
                }),
                "a regular expression",
            ),
            (Bson::JavaScriptCode("1".into()), "code"),
            (
                Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
                    code: "1".into(),
                    scope: doc! {},
                }),
                "code",
            ),
            (Bson::Symbol("a".into()), "a symbol"),
            (Bson::Undefined, "an undefined value"),
            (Bson::MinKey, "a min key"),
            (Bson::MaxKey, "a max key"),
        ] {
            let document = doc! {"a": {"b\n": [1, {"c": no_form}]}};
            let Err(JsonError::NoForm(detail)) = written(&document) else { panic!("{named}") };
            assert!(detail.starts_with(&format!("has at `a.b\\n[1].c` {named}")), "{detail}");
        }
    }

    fn nested(levels: usize) -> Document {
        (1..levels).fold(doc! {}, |inner, _| doc! {"a": inner})
    }

    #[test]
    fn depth_and_length_are_bounded() {
        assert!(written(&nested(MAX_DEPTH)).is_ok());
        let Err(JsonError::NoForm(detail)) = written(&nested(MAX_DEPTH + 1)) else { panic!() };
        assert!(detail.contains("more than 128 levels") && detail.len() < 400, "{detail}");
        let raw = RawDocumentBuf::try_from(&doc! {"a": "bcd", "e": [1, 2]}).unwrap();
        let whole = r#"{"a":"bcd","e":[1,2]}"#.len();
        for bytes_max in 0..whole {
            let mut text = Vec::new();
            assert_eq!(write_document(&raw, &mut text, bytes_max), Err(JsonError::TooLarge));
        }
        assert_eq!(write_document(&raw, &mut Vec::new(), whole), Ok(()));
    }

    #[test]
    fn names_stay_as_they_are_doubles_too() {
        // {"a\"$b.": 1, "a\"$b.": 2}
        let element = |number: u8| [b"\x10a\"$b.\0", &[number, 0, 0, 0][..]].concat();
        let body = [element(1), element(2)].concat();
        let length = u32::try_from(body.len() + 5).unwrap();
        let bytes = [&length.to_le_bytes()[..], &body, &[0]].concat();
        let raw = RawDocumentBuf::from_bytes(bytes).unwrap();
        let mut text = Vec::new();
        write_document(&raw, &mut text, 1 << 20).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), r#"{"a\"$b.":1,"a\"$b.":2}"#);
    }

    #[test]
    fn bytes_that_are_no_bson_or_no_utf8_are_refused() {
        let good = RawDocumentBuf::try_from(&doc! {"text": "abcd", "list": [1]}).unwrap();
        for at in 4..good.as_bytes().len() {
            for byte in [0, 0x02, 0xff] {
                let mut bytes = good.as_bytes().to_vec();
                bytes[at] = byte;
                let Ok(raw) = RawDocumentBuf::from_bytes(bytes) else { continue };
                let mut text = Vec::new();
                if write_document(&raw, &mut text, 1 << 20).is_ok() {
                    serde_json::from_slice::<serde_json::Value>(&text).unwrap();
                }
            }
        }
        let mut bytes = good.as_bytes().to_vec();
        let at = bytes.windows(4).position(|it| it == b"abcd").unwrap();
        bytes[at] = 0xff;
        let raw = RawDocumentBuf::from_bytes(bytes).unwrap();
        let result = write_document(&raw, &mut Vec::new(), 1 << 20);
        assert!(matches!(result, Err(JsonError::NoForm(_))), "{result:?}");
    }
}
