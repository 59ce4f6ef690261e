use serde_json::json;

use super::*;

const PLACE: &str = "#/components/schemas/c.v1";

fn embedded(schema: &Value) -> Value {
    embed(schema, PLACE)
}

#[test]
fn a_reference_within_the_schema_is_one_from_the_documents_root() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"day": {"type": "string"}, "a/b~c d": {"$ref": "#"}},
        "properties": {
            "born": {"$ref": "#/$defs/day"},
            "odd": {"$ref": "#/$defs/a~1b~0c%20d", "description": "kept"},
            // A property may have any name.
            "$ref": {"$ref": "#/$defs/day"},
        },
        "allOf": [{"not": {"$ref": "#/$defs/day"}}],
    });
    assert_eq!(
        embedded(&schema),
        json!({
            "$defs": {"day": {"type": "string"}, "a/b~c d": {"$ref": PLACE}},
            "properties": {
                "born": {"$ref": format!("{PLACE}/$defs/day")},
                "odd": {"$ref": format!("{PLACE}/$defs/a~1b~0c%20d"), "description": "kept"},
                "$ref": {"$ref": format!("{PLACE}/$defs/day")},
            },
            "allOf": [{"not": {"$ref": format!("{PLACE}/$defs/day")}}],
        })
    );
}

#[test]
fn names_of_schemas_and_anchors_become_places() {
    let schema = json!({
        "$id": "https://example.org/customer.json",
        "properties": {
            "a": {"$ref": "#here"},
            "b": {"$ref": "https://example.org/customer.json#/$defs/day"},
            "c": {"$ref": "day.json"},
            "d": {"$ref": "day.json#/$defs/hour"},
            "e": {"$dynamicRef": "#node"},
            "f": {"$ref": "urn:example:hour"},
            "g": {"$ref": "#old"},
        },
        "$defs": {
            "day": {"$id": "day.json", "$defs": {"hour": {"$id": "urn:example:hour"}},
                "items": {"$ref": "#/$defs/hour"}},
            "named": {"$anchor": "here", "$dynamicAnchor": "node"},
            "old": {"$id": "#old"},
        },
    });
    let place = |pointer: &str| json!({"$ref": format!("{PLACE}{pointer}")});
    assert_eq!(
        embedded(&schema),
        json!({
            "properties": {
                "a": place("/$defs/named"),
                "b": place("/$defs/day"),
                "c": place("/$defs/day"),
                "d": place("/$defs/day/$defs/hour"),
                "e": place("/$defs/named"),
                "f": place("/$defs/day/$defs/hour"),
            "g": place("/$defs/old"),
            },
            "$defs": {
                "day": {"$defs": {"hour": {}}, "items": place("/$defs/day/$defs/hour")},
                "named": {},
            "old": {},
            },
        })
    );
}

#[test]
fn an_id_with_an_empty_fragment_names_the_same_schema_as_without_it() {
    let schema = json!({
        "$id": "http://example.org/customer.json#",
        "definitions": {"day": {"$id": "day.json#", "type": "string"}},
        "properties": {
            "a": {"$ref": "#/definitions/day"},
            "b": {"$ref": "http://example.org/customer.json#/definitions/day"},
            "c": {"$ref": "day.json"},
            "d": {"$ref": "#"},
        },
    });
    let day = json!({"$ref": format!("{PLACE}/definitions/day")});
    let expected = json!({"a": day, "b": day, "c": day, "d": {"$ref": PLACE}});
    assert_eq!(embedded(&schema)["properties"], expected);
}

#[test]
fn where_a_reference_names_nothing_here_anything_is_allowed() {
    for reference in
        ["#/$defs/none", "other.json", "https://example.org/x#/a", "#none", "http://[", "#/%ff"]
    {
        let embedded = embedded(&json!({"properties": {"a": {"$ref": reference, "title": "A"}}}));
        let comment = format!("`{reference}` is not in this document");
        assert_eq!(embedded["properties"]["a"], json!({"$comment": comment, "title": "A"}));
    }
}

#[test]
fn data_and_other_dialects_stay_as_they_are() {
    let draft = "http://json-schema.org/draft-07/schema#";
    let schema = json!({
        "$schema": draft,
        "const": {"$ref": "#/a", "$id": "b"},
        "enum": [{"$ref": "#/a"}],
        "examples": [{"$ref": "#/a"}],
        "default": {"$anchor": "c"},
        "properties": {"$id": {"type": "string"}},
    });
    assert_eq!(embedded(&schema), schema);
    for schema in [json!(true), json!(false), json!({})] {
        assert_eq!(embedded(&schema), schema);
    }
}

#[test]
fn a_member_that_is_not_known_may_hold_what_is_referred_to() {
    let schema = json!({
        "x-parts": {"day": {"$anchor": "day", "items": {"$ref": "#/x-parts/hour"}}, "hour": {}},
        "properties": {"a": {"$ref": "#day"}},
    });
    let embedded = embedded(&schema);
    assert_eq!(embedded["properties"]["a"]["$ref"], format!("{PLACE}/x-parts/day"));
    assert_eq!(embedded["x-parts"]["day"]["items"]["$ref"], format!("{PLACE}/x-parts/hour"));
}
