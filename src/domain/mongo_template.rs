//! Templates of MongoDB queries: filters, projections and pipelines with references.
//!
//! A reference is a whole string of its own, and stands as a value only. Whether a bound text can
//! be read as anything but a text depends on the place (MongoDB's documentation, "Query Predicates"
//! and "Expressions"): in a filter a value is what it is; in an expression a text that begins with
//! `$` is a path or a variable, so a bound value stands as `{$literal: …}`; everywhere else
//! (names of fields and collections, patterns, numbers of stages) no reference can stand.

use std::ops::Range;
use std::sync::Arc;

use super::context::{Context, FieldPlace};
use super::fields::{is_bool, is_null, is_number};
use super::mongo::{MongoConversion, MongoDocument, MongoParameter, MongoValue};
use super::reference::{ReferenceReader, find_in_text, find_unquoted};
use super::tree::{Scalar, TreeKey, TreeNode, TreeValue};

/// The most text of a source's templates, in bytes.
const TEMPLATE_BYTES_MAX: usize = 64 << 10;
/// The most values of a source's templates.
const VALUES_MAX: usize = 10_000;
/// The deepest nesting of a template.
const DEPTH_MAX: usize = 32;
/// The most references of a source.
const REFERENCES_MAX: usize = 256;

/// The operators that run code or write.
const FORBIDDEN: [(&str, &str); 5] = [
    ("$where", "it runs code in the database: write the condition with `$expr`"),
    ("$function", "it runs code in the database: use its operators, or a view"),
    ("$accumulator", "it runs code in the database: use its operators, or a view"),
    ("$out", "a source only reads: remove the stage"),
    ("$merge", "a source only reads: remove the stage"),
];

/// What a value means where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TemplatePlace {
    /// In a filter.
    Filter,
    /// In an expression.
    Expression,
    /// Below `$literal`, where nothing is read.
    Literal,
    /// The arguments of an expression of which some are patterns or the names of fields.
    NamedArguments,
    /// A list of stages.
    Pipeline,
    /// One of those.
    Stage,
    /// The arguments of the stages that have filters, expressions or pipelines in some.
    Facet,
    Lookup,
    GraphLookup,
    UnionWith,
    GeoNear,
    /// Where a value must be known when the file is read.
    Fixed,
}

use TemplatePlace as Place;

impl TemplatePlace {
    /// The place below the member `key`.
    fn below(self, key: &str) -> Self {
        match self {
            Self::Filter => match key {
                "$expr" => Self::Expression,
                "$regex" | "$options" | "$jsonSchema" => Self::Fixed,
                _ => Self::Filter,
            },
            Self::Expression => match key {
                "$literal" => Self::Literal,
                // Of a projection.
                "$elemMatch" => Self::Filter,
                "$regexMatch" | "$regexFind" | "$regexFindAll" | "$getField" | "$setField"
                | "$unsetField" => Self::NamedArguments,
                _ => Self::Expression,
            },
            Self::NamedArguments if matches!(key, "input" | "value") => Self::Expression,
            Self::Stage => Self::of_stage(key),
            Self::Lookup | Self::GraphLookup | Self::UnionWith | Self::GeoNear => {
                self.argument(key)
            }
            Self::Facet => Self::Pipeline,
            Self::Literal | Self::Pipeline => self,
            Self::NamedArguments | Self::Fixed => Self::Fixed,
        }
    }

    /// The place of an argument of a stage.
    fn argument(self, key: &str) -> Self {
        match (self, key) {
            (Self::Lookup | Self::UnionWith, "pipeline") => Self::Pipeline,
            (Self::Lookup, "let") | (Self::GraphLookup, "startWith") => Self::Expression,
            (Self::GraphLookup, "restrictSearchWithMatch") | (Self::GeoNear, "query") => {
                Self::Filter
            }
            _ => Self::Fixed,
        }
    }

    /// The place below a stage of this name. What is not known here takes no reference.
    fn of_stage(name: &str) -> Self {
        match name {
            "$match" => Self::Filter,
            "$addFields" | "$bucket" | "$bucketAuto" | "$documents" | "$fill" | "$group"
            | "$project" | "$redact" | "$replaceRoot" | "$replaceWith" | "$set"
            | "$setWindowFields" | "$sortByCount" => Self::Expression,
            "$facet" => Self::Facet,
            "$lookup" => Self::Lookup,
            "$graphLookup" => Self::GraphLookup,
            "$unionWith" => Self::UnionWith,
            "$geoNear" => Self::GeoNear,
            _ => Self::Fixed,
        }
    }
}

/// Reads the templates of one source, whose bounds and parameters they share.
pub(super) struct TemplateReader<'t, 'a, 's> {
    context: &'t mut Context<'a>,
    references: &'t mut ReferenceReader<'s>,
    parameters: Vec<MongoParameter>,
    bytes: usize,
    values: usize,
    /// A bound was passed: nothing more is read.
    is_full: bool,
}

impl<'t, 'a, 's> TemplateReader<'t, 'a, 's> {
    pub(super) fn new(
        context: &'t mut Context<'a>,
        references: &'t mut ReferenceReader<'s>,
    ) -> Self {
        let parameters = Vec::new();
        Self { context, references, parameters, bytes: 0, values: 0, is_full: false }
    }

    /// What problems are reported to.
    pub(super) fn context(&mut self) -> &mut Context<'a> {
        self.context
    }

    /// The parameters of all that was read.
    pub(super) fn into_parameters(self) -> Vec<MongoParameter> {
        self.parameters
    }

    /// A template that is a document.
    pub(super) fn document(&mut self, node: &TreeNode, place: Place) -> Option<MongoDocument> {
        let TreeValue::Map(entries) = &node.value else {
            let hint = "write `field: value` lines, indented below";
            let expected = "a mapping";
            self.context.problem(node.span.clone(), "this is no document", expected, hint);
            return None;
        };
        self.entries(node, entries, place, 1)
    }

    /// A template that is a list of stages.
    pub(super) fn pipeline(&mut self, node: &TreeNode) -> Option<Vec<MongoValue>> {
        match self.value(node, Place::Pipeline, 0)? {
            MongoValue::List(stages) => Some(stages),
            _ => None,
        }
    }

    fn value(&mut self, node: &TreeNode, place: Place, depth: usize) -> Option<MongoValue> {
        if !self.has_room(node, depth) {
            return None;
        }
        match (&node.value, place) {
            (TreeValue::List(items), _) => {
                let place = if place == Place::Pipeline { Place::Stage } else { place };
                let items: Vec<_> =
                    items.iter().map(|item| self.value(item, place, depth + 1)).collect();
                items.into_iter().collect::<Option<_>>().map(MongoValue::List)
            }
            (_, Place::Pipeline) => {
                let hint = "write each stage behind a dash: `- $match: {customer: '{key}'}`";
                self.problem(node, "this is no pipeline", "a list of stages", hint);
                None
            }
            (TreeValue::Map(entries), _) => {
                if place == Place::Stage && entries.len() != 1 {
                    let hint = "each stage has one operator: `- $match: {customer: '{key}'}`";
                    self.problem(node, "this is no stage", "one operator", hint);
                    return None;
                }
                self.entries(node, entries, place, depth + 1).map(MongoValue::Document)
            }
            (TreeValue::Scalar(scalar), _) if scalar.broken => None,
            (TreeValue::Scalar(scalar), _) => {
                if place == Place::Stage {
                    let hint = "write it as a mapping: `- $match: {customer: '{key}'}`";
                    self.problem(node, "this is no stage", "one operator", hint);
                    return None;
                }
                self.scalar(FieldPlace { span: &node.span, scalar }, place)
            }
        }
    }

    fn entries(
        &mut self,
        node: &TreeNode,
        entries: &[(TreeKey, TreeNode)],
        place: Place,
        depth: usize,
    ) -> Option<MongoDocument> {
        if let Some(name) =
            find_unquoted(self.context, entries, node.span.start, self.references.names())
        {
            let hint = format!("put it in quotes: `'{{{name}}}'`");
            let expected = "a reference in quotes";
            self.problem(node, "without quotes this is a document", expected, &hint);
            return None;
        }
        let mut fields = Vec::with_capacity(entries.len());
        let mut is_good = true;
        for (key, value) in entries {
            let is_fit = self.check_name(key);
            let value = self.value(value, place.below(&key.text), depth);
            is_good &= is_fit && value.is_some();
            if let Some(value) = value {
                fields.push((Arc::from(key.text.as_str()), value));
            }
            if self.is_full {
                return None;
            }
        }
        is_good.then_some(MongoDocument(fields))
    }

    /// Whether a field may have this name; reports it where it may not.
    fn check_name(&mut self, key: &TreeKey) -> bool {
        self.bytes += key.text.len();
        let before = self.context.count();
        if let Some((_, hint)) = FORBIDDEN.iter().find(|(name, _)| *name == key.text) {
            let message = format!("`{}` is not taken", key.text);
            self.context.problem(key.span.clone(), message, "what only reads", *hint);
        } else if key.text.contains('\0') {
            let hint = "remove it";
            let expected = "a name";
            self.context.problem(key.span.clone(), "a name cannot hold a NUL", expected, hint);
        } else if find_in_text(self.context, &key.text, self.references.names()).is_some() {
            let message = "a reference cannot stand in the name of a field";
            let hint = "references are values: write the name out";
            self.context.problem(key.span.clone(), message, "a fixed name", hint);
        }
        self.context.count() == before
    }

    fn scalar(&mut self, at: FieldPlace<'_>, place: Place) -> Option<MongoValue> {
        let text = at.scalar.text.as_str();
        if at.scalar.plain && (is_null(text) || is_bool(text) || is_number(text)) {
            return self.typed(at);
        }
        let Some(found) = find_in_text(self.context, text, self.references.names()) else {
            return Some(MongoValue::Text(text.into()));
        };
        if found != (0..text.len()) {
            let hint = "a reference is a whole string: put texts together with `$concat`, or match \
                        the parts one by one";
            let message = "a reference cannot stand in a longer text";
            self.context.problem_in(at, found, message, "the reference alone", hint);
            return None;
        }
        if !matches!(place, Place::Filter | Place::Expression | Place::Literal) {
            let hint = "references stand as the values of a filter and in expressions";
            let message = "a reference cannot stand here: it could mean more than a value";
            self.context.problem_in(at, found, message, "a fixed value", hint);
            return None;
        }
        let index = self.parameter(at, found)?;
        Some(match place {
            Place::Filter | Place::Literal => MongoValue::Bound(index),
            _ => MongoValue::Literal(index),
        })
    }

    /// The number of the parameter of the reference that the whole of a text is.
    fn parameter(&mut self, at: FieldPlace<'_>, range: Range<usize>) -> Option<usize> {
        let text = at.scalar.text.as_str();
        let inner = 1..text.len() - 1;
        let (name, conversion) = match text[inner.clone()].find(':') {
            None => (inner, MongoConversion::Text),
            Some(colon) => {
                let suffix = inner.start + colon + 1..inner.end;
                let named = MongoConversion::NAMED.iter();
                let Some((_, conversion)) =
                    named.into_iter().find(|(name, _)| *name == &text[suffix.clone()])
                else {
                    let hint = "write `{key:int}`, `{key:objectId}`, or `{key}` for a string";
                    let message = "there is no such conversion";
                    let place = if suffix.is_empty() { range } else { suffix };
                    self.context.problem_in(at, place, message, "`int` or `objectId`", hint);
                    return None;
                };
                (inner.start..inner.start + colon, *conversion)
            }
        };
        if self.parameters.len() == REFERENCES_MAX {
            let hint = "put the query into a view of the database";
            let expected = format!("at most {REFERENCES_MAX}");
            let message = "the source has too many references";
            self.context.problem_in(at, range, message, expected, hint);
            self.is_full = true;
            return None;
        }
        let reference = self.references.resolve_named(self.context, at, range, name)?;
        self.parameters.push(MongoParameter { reference, conversion });
        Some(self.parameters.len() - 1)
    }

    /// The value of a scalar without quotes that is no text, by YAML 1.2's core schema.
    fn typed(&mut self, at: FieldPlace<'_>) -> Option<MongoValue> {
        let text = at.scalar.text.as_str();
        if is_null(text) {
            return Some(MongoValue::Null);
        }
        if is_bool(text) {
            return Some(MongoValue::Boolean(text.eq_ignore_ascii_case("true")));
        }
        let value = number(at.scalar);
        if value.is_none() {
            let hint = "a larger number is a text for `$toDecimal`: put it in quotes";
            let expected = "a number of at most 64 bits";
            self.context.problem(at.span.clone(), "there is no such number", expected, hint);
        }
        value
    }

    /// Counts a value; reports the bound that it passes.
    fn has_room(&mut self, node: &TreeNode, depth: usize) -> bool {
        self.values += 1;
        if let TreeValue::Scalar(scalar) = &node.value {
            self.bytes += scalar.text.len();
        }
        if self.is_full {
            return false;
        }
        let (message, expected) = if depth > DEPTH_MAX {
            ("this is nested too deeply", format!("at most {DEPTH_MAX} levels"))
        } else if self.values > VALUES_MAX {
            ("the source has too many values", format!("at most {VALUES_MAX}"))
        } else if self.bytes > TEMPLATE_BYTES_MAX {
            ("the source's query is too long", format!("at most {TEMPLATE_BYTES_MAX} bytes"))
        } else {
            return true;
        };
        self.is_full = true;
        self.problem(node, message, &expected, "put the query into a view of the database");
        false
    }

    fn problem(&mut self, node: &TreeNode, message: &str, expected: &str, hint: &str) {
        self.context.problem(node.span.clone(), message, expected, hint);
    }
}

/// A number that is written as YAML 1.2's core schema has it.
fn number(scalar: &Scalar) -> Option<MongoValue> {
    let text = scalar.text.as_str();
    let whole = |number: i64| match i32::try_from(number) {
        Ok(number) => MongoValue::Int32(number),
        Err(_) => MongoValue::Int64(number),
    };
    let based =
        |prefix, base| text.strip_prefix(prefix).map(|digits| i64::from_str_radix(digits, base));
    if let Some(number) = based("0x", 16).or_else(|| based("0o", 8)) {
        return number.ok().map(whole);
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if unsigned.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) {
        return unsigned.parse().ok().map(whole);
    }
    match unsigned.to_ascii_lowercase().as_str() {
        ".inf" => Some(MongoValue::Double(f64::INFINITY)),
        "-.inf" => Some(MongoValue::Double(f64::NEG_INFINITY)),
        ".nan" => Some(MongoValue::Double(f64::NAN)),
        finite => finite.parse().ok().filter(|it: &f64| it.is_finite()).map(MongoValue::Double),
    }
}
