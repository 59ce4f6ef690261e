//! `GET /openapi.json`: every version of every domain as an `OpenAPI` 3.1 document.
//!
//! Source: <https://spec.openapis.org/oas/v3.1.0>. A version's own JSON Schema is a component, with
//! its references made the document's ([`embed`]).

mod embed;
mod key_parameter;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::domain::{Domain, Version};

/// The document, rendered once a table.
pub(super) fn render(domains: &[&Domain]) -> Bytes {
    let mut paths = Map::new();
    let mut schemas = Map::from_iter([("Problem".to_owned(), problem_schema())]);
    for domain in domains {
        for version in &domain.versions {
            paths.insert(version.path.text.clone(), path_item(domain, version));
            if let Some(schema) = &version.schema {
                let embedded = embed::embed(schema, &schema_pointer(domain, version));
                schemas.insert(schema_name(domain, version), embedded);
            }
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
        "components": {"schemas": schemas, "responses": {"Problem": problem_response()}},
    });
    Bytes::from(serde_json::to_vec(&document).unwrap_or_default())
}

/// A domain's name has no point, so this is the name of no other version.
fn schema_name(domain: &Domain, version: &Version) -> String {
    format!("{}.{}", domain.name, version.name)
}

fn schema_pointer(domain: &Domain, version: &Version) -> String {
    format!("#/components/schemas/{}", schema_name(domain, version))
}

fn path_item(domain: &Domain, version: &Version) -> Value {
    let problems = ["400", "404", "405", "421", "502", "503", "504"];
    let mut responses: Map<String, Value> = problems
        .iter()
        .map(|s| ((*s).to_owned(), json!({"$ref": "#/components/responses/Problem"})))
        .collect();
    responses.insert("200".to_owned(), dataset_response(domain, version));
    responses.insert(
        "304".to_owned(),
        json!({"description": "What `If-None-Match` names is still right"}),
    );
    let get = json!({
        "operationId": format!("{}_{}", domain.name, version.name),
        "summary": format!("The whole {} in version {}", domain.name, version.name),
        "tags": [*domain.name],
        "deprecated": version.deprecated.is_some(),
        "responses": responses,
    });
    json!({"parameters": [key_parameter::key_parameter(domain)], "get": get})
}

fn dataset_response(domain: &Domain, version: &Version) -> Value {
    let schema = match (&version.schema, &version.shape) {
        (Some(_), _) => json!({"$ref": schema_pointer(domain, version)}),
        (None, Some(_)) => json!({}),
        (None, None) => {
            let names: Vec<&str> =
                domain.sources.iter().map(|source| source.name.as_ref()).collect();
            let members: Map<String, Value> =
                names.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
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

fn problem_response() -> Value {
    json!({
        "description": "A problem (RFC 9457); never a part of the data",
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
        },
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
                    "source": {"type": "string"}, "reason": {"type": "string"},
                    "detail": {"type": "string"},
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
    fn what_a_schema_refers_to_is_there_in_the_document() {
        let schema = r##"{"$defs": {"day": {"type": "string"}},
            "properties": {"born": {"$ref": "#/$defs/day"}}}"##;
        let text = "domain: c\nsources:\n  a: {url: 'http://a/{key}'}\nversions:\n  \
                    v1: {path: '/v1/c/{key}', schema: s.json}\n";
        let read = |_: &Path| Ok(schema.to_owned());
        let world = World {
            variable: &|_| None,
            read: &read,
            program: &|_| Ok(()),
            allow_http: true,
            allow_https: true,
        };
        let domain = parse(Path::new("c.yaml"), text, world).unwrap();
        let document: Value = serde_json::from_slice(&render(&[&domain])).unwrap();
        let answer = &document["paths"]["/v1/c/{key}"]["get"]["responses"]["200"];
        let schema = &answer["content"]["application/json"]["schema"];
        assert_eq!(schema["$ref"], "#/components/schemas/c.v1");
        let embedded = &document["components"]["schemas"]["c.v1"];
        let born = embedded["properties"]["born"]["$ref"].as_str().unwrap();
        assert_eq!(born, "#/components/schemas/c.v1/$defs/day");
        assert_eq!(document.pointer(born.trim_start_matches('#')).unwrap()["type"], "string");
    }
}
