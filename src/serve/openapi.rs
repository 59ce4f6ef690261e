//! `GET /openapi.json`: every version of every domain as an `OpenAPI` 3.1 document.
//!
//! Source: <https://spec.openapis.org/oas/v3.1.0>. A version's own JSON Schema goes in as it is.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::domain::{Domain, Version};

/// The document, rendered once a table.
pub(super) fn render(domains: &[&Domain]) -> Bytes {
    let mut paths = Map::new();
    for domain in domains {
        for version in &domain.versions {
            paths.insert(version.path.text.clone(), path_item(domain, version));
        }
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "bfb",
            "summary": "Whole datasets on localhost: complete or not at all",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "servers": [{"url": "http://localhost:7070"}],
        "paths": paths,
        "components": {"schemas": {"Problem": problem_schema()}, "responses": {"Problem": problem_response()}},
    });
    Bytes::from(serde_json::to_vec(&document).unwrap_or_default())
}

fn path_item(domain: &Domain, version: &Version) -> Value {
    let key = json!({
        "name": "key", "in": "path", "required": true,
        "schema": {"type": "string", "pattern": format!("^(?:{})$", domain.key.text), "maxLength": super::MAX_KEY_BYTES},
    });
    let problems = ["400", "404", "405", "421", "502", "503", "504"];
    let mut responses: Map<String, Value> =
        problems.iter().map(|s| ((*s).to_owned(), json!({"$ref": "#/components/responses/Problem"}))).collect();
    responses.insert("200".to_owned(), complete(domain, version));
    responses.insert("304".to_owned(), json!({"description": "What `If-None-Match` names is still right"}));
    let get = json!({
        "operationId": format!("{}_{}", domain.name, version.name),
        "summary": format!("The whole {} in version {}", domain.name, version.name),
        "tags": [*domain.name],
        "deprecated": version.deprecated.is_some(),
        "responses": responses,
    });
    json!({"parameters": [key], "get": get})
}

fn complete(domain: &Domain, version: &Version) -> Value {
    let schema = match (&version.schema, &version.shape) {
        (Some(schema), _) => named(schema.as_ref().clone(), domain, version),
        (None, Some(_)) => json!({}),
        (None, None) => {
            let names: Vec<&str> = domain.sources.iter().map(|source| source.name.as_ref()).collect();
            let members: Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
            json!({"type": "object", "properties": members, "required": names})
        }
    };
    let header = |text: &str| json!({"description": text, "schema": {"type": "string"}});
    json!({
        "description": "Every part of the dataset",
        "headers": {
            "ETag": header("Strong, of these bytes"),
            "Bfb-Dataset": header("Names the dataset; answers with the same name never disagree"),
            "Cache-Status": header("RFC 9211: where the answer came from"),
            "Age": header("Seconds since it was collected"),
            "Deprecation": header("RFC 9745: since when this version is deprecated, if it is"),
            "Sunset": header("RFC 8594: when it ends"),
            "Link": header("The version that succeeds it"),
        },
        "content": {"application/json": {"schema": schema}},
    })
}

/// A schema with a name of its own, so that what it refers to within itself is looked for there and not in this document
/// (JSON Schema 2020-12, section 8.2.1).
fn named(mut schema: Value, domain: &Domain, version: &Version) -> Value {
    if let Some(members) = schema.as_object_mut() {
        members.entry("$id").or_insert_with(|| format!("urn:bfb:schema:{}:{}", domain.name, version.name).into());
    }
    schema
}

fn problem_response() -> Value {
    json!({
        "description": "A problem (RFC 9457); never a part of the data",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    })
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "required": ["type", "title", "status", "trace_id"],
        "properties": {
            "type": {"type": "string", "pattern": "^urn:bfb:"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "trace_id": {"type": "string"},
            "domain": {"type": "string"},
            "version": {"type": "string"},
            "failed": {"type": "array", "items": {
                "type": "object",
                "required": ["source", "reason", "detail"],
                "properties": {
                    "source": {"type": "string"}, "reason": {"type": "string"}, "detail": {"type": "string"},
                },
            }},
        },
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::domain::{World, parse};

    #[test]
    fn what_a_schema_refers_to_is_looked_for_within_it() {
        let schema = r##"{"$defs": {"day": {"type": "string"}}, "properties": {"born": {"$ref": "#/$defs/day"}}}"##;
        let text = "domain: c\nsources:\n  a: {url: 'http://a/{key}'}\nversions:\n  \
                    v1: {path: '/v1/c/{key}', schema: s.json}\n";
        let read = |_: &Path| Ok(schema.to_owned());
        let world =
            World { variable: &|_| None, read: &read, program: &|_| Ok(()), allow_http: true, allow_https: true };
        let domain = parse(Path::new("c.yaml"), text, world).unwrap();
        let document: Value = serde_json::from_slice(&render(&[&domain])).unwrap();
        let answer = &document["paths"]["/v1/c/{key}"]["get"]["responses"]["200"];
        let embedded = &answer["content"]["application/json"]["schema"];
        assert_eq!(embedded["$id"], "urn:bfb:schema:c:v1");
        assert_eq!(embedded["properties"]["born"]["$ref"], "#/$defs/day");
    }
}
