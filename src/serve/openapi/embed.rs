//! A version's JSON Schema as a component of the `OpenAPI` document: every reference in it points
//! at something there.
//!
//! A schema's references are relative to the schema itself (`#/$defs/day`), which in the document
//! is a part of something else. An `$id` would keep them right for a reader that follows JSON
//! Schema 2020-12 to the letter; many tools do not. So each reference is resolved here, by `$id`,
//! `$anchor` and JSON Pointer (JSON Schema 2020-12, section 8.2), and written as a pointer from the
//! document's root. The target of a reference outside of the schema is not fetched: there, anything
//! is allowed.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use reqwest::Url;
use serde_json::{Map, Value};

/// The name of a schema without an `$id` while its references are resolved.
const UNNAMED: &str = "bfb://schema/";
/// The dialect of `OpenAPI` 3.1, which need not be named.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Members that hold data.
const DATA: [&str; 5] = ["const", "enum", "default", "example", "examples"];
/// Members whose own members are schemas under names of the author's choice.
const NAMED_SCHEMAS: [&str; 6] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
const ANCHORS: [&str; 2] = ["$anchor", "$dynamicAnchor"];
/// The characters that cannot stand in the fragment of a URI (RFC 3986, section 3.5).
const NOT_IN_FRAGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// `schema` as it can stand at `place` (`#/components/schemas/NAME`).
pub(super) fn embed(schema: &Value, place: &str) -> Value {
    let Ok(unnamed) = Url::parse(UNNAMED) else { return Value::Bool(true) };
    let mut resources = SchemaResources { root: schema, place, pointers: BTreeMap::new() };
    resources.pointers.insert(unnamed.to_string(), String::new());
    resources.collect(schema, "", &unnamed);
    let mut embedded = resources.rewrite(schema, &unnamed);
    if let Some(members) = embedded.as_object_mut()
        && members
            .get("$schema")
            .and_then(Value::as_str)
            .is_some_and(|it| it.trim_end_matches('#') == DIALECT)
    {
        members.remove("$schema");
    }
    embedded
}

/// The targets that a reference can name.
struct SchemaResources<'a> {
    root: &'a Value,
    place: &'a str,
    /// JSON Pointers from the root, by URI: without a fragment of a schema, with one of an anchor.
    pointers: BTreeMap<String, String>,
}

impl SchemaResources<'_> {
    fn collect(&mut self, schema: &Value, pointer: &str, base: &Url) {
        let Value::Object(members) = schema else { return };
        let base = base_of(members, base);
        if members.get("$id").is_some_and(Value::is_string) {
            // In older dialects an anchor is an `$id` that is nothing but a fragment.
            let uri = match base.fragment() {
                // Schemas of older dialects are often named `https://…/name.json#`. A URI with an
                // empty fragment names the same schema as the URI without it.
                Some("") => without_fragment(&base),
                _ => base.to_string(),
            };
            self.pointers.entry(uri).or_insert_with(|| pointer.to_owned());
        }
        for anchor in ANCHORS.iter().filter_map(|name| members.get(*name)?.as_str()) {
            let uri = format!("{}#{anchor}", without_fragment(&base));
            self.pointers.entry(uri).or_insert_with(|| pointer.to_owned());
        }
        for (steps, subschema) in members.iter().flat_map(|(name, value)| subschemas(name, value)) {
            self.collect(subschema, &format!("{pointer}{steps}"), &base);
        }
    }

    fn rewrite(&self, schema: &Value, base: &Url) -> Value {
        let Value::Object(members) = schema else { return schema.clone() };
        let base = base_of(members, base);
        let mut written = Map::new();
        for (name, value) in members {
            match (name.as_str(), value) {
                ("$id", Value::String(_)) => {}
                (name, Value::String(_)) if ANCHORS.contains(&name) => {}
                (name, Value::String(reference)) if REFERENCES.contains(&name) => {
                    let (name, value) = match self.resolve(reference, &base) {
                        Some(pointer) => ("$ref", pointer),
                        None => ("$comment", format!("`{reference}` is not in this document")),
                    };
                    written.insert(name.to_owned(), value.into());
                }
                (name, value) => {
                    written.insert(name.to_owned(), self.rewrite_member(name, value, &base));
                }
            }
        }
        Value::Object(written)
    }

    fn rewrite_member(&self, name: &str, value: &Value, base: &Url) -> Value {
        match value {
            _ if DATA.contains(&name) => value.clone(),
            Value::Object(named) if NAMED_SCHEMAS.contains(&name) => named
                .iter()
                .map(|(name, schema)| (name.clone(), self.rewrite(schema, base)))
                .collect(),
            Value::Array(items) => items.iter().map(|item| self.rewrite(item, base)).collect(),
            schema => self.rewrite(schema, base),
        }
    }

    /// The reference from the document's root.
    fn resolve(&self, reference: &str, base: &Url) -> Option<String> {
        let target = base.join(reference).ok()?;
        let fragment =
            percent_decode_str(target.fragment().unwrap_or_default()).decode_utf8().ok()?;
        let resource = without_fragment(&target);
        let pointer = if fragment.is_empty() || fragment.starts_with('/') {
            format!("{}{fragment}", self.pointers.get(&resource)?)
        } else {
            self.pointers.get(&format!("{resource}#{fragment}"))?.clone()
        };
        // A pointer may name nothing.
        self.root.pointer(&pointer)?;
        Some(format!("{}{}", self.place, utf8_percent_encode(&pointer, NOT_IN_FRAGMENT)))
    }
}

/// The base to which the references of a schema are relative.
fn base_of(members: &Map<String, Value>, outer: &Url) -> Url {
    let id = members.get("$id").and_then(Value::as_str);
    id.and_then(|id| outer.join(id).ok()).unwrap_or_else(|| outer.clone())
}

fn without_fragment(uri: &Url) -> String {
    let mut uri = uri.clone();
    uri.set_fragment(None);
    uri.to_string()
}

/// The schemas in a member, with the JSON Pointer from the schema that it is a member of. Where a
/// member is not known, whatever it holds may be referred to as a schema.
fn subschemas<'v>(name: &str, value: &'v Value) -> Vec<(String, &'v Value)> {
    let name_step = step(name);
    match value {
        _ if DATA.contains(&name) => Vec::new(),
        Value::Object(named) if NAMED_SCHEMAS.contains(&name) => named
            .iter()
            .map(|(key, schema)| (format!("{name_step}{}", step(key)), schema))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| (format!("{name_step}/{index}"), item))
            .collect(),
        schema => vec![(name_step, schema)],
    }
}

/// RFC 6901, section 3.
fn step(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
