//! The JSON Schema of a domain file, for editors.

/// JSON Schema, draft 2020-12. Kept by hand beside the decoder; a test holds the keys of the two
/// equal.
pub const SCHEMA: &str = include_str!("schema.json");

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{decode, source, version};
    use super::*;

    fn keys(schema: &serde_json::Value, pointer: &str) -> BTreeSet<String> {
        schema.pointer(pointer).and_then(|it| it.as_object()).unwrap().keys().cloned().collect()
    }

    #[test]
    fn the_schema_and_the_decoder_know_the_same_keys() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
        for (pointer, list) in [
            ("/properties", decode::DOMAIN_KEYS),
            ("/$defs/source/properties", source::SOURCE_KEYS),
            ("/$defs/version/properties", version::VERSION_KEYS),
            ("/properties/cache/properties", decode::CACHE_KEYS),
        ] {
            let list: BTreeSet<_> = list.iter().map(|key| (*key).to_owned()).collect();
            assert_eq!(keys(&schema, pointer), list, "{pointer}");
        }
    }
}
