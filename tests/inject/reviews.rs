//! Admission reviews: the corpus of the fuzz target, replayed and damaged.

#[path = "../../fuzz/properties/review.rs"]
mod review;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

fn corpus() -> Vec<Vec<u8>> {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/review");
    let mut files: Vec<_> =
        std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn every_review_of_the_corpus_is_answered_as_promised() {
    let pods = corpus().iter().filter(|data| review::holds(data)).count();
    assert!(pods >= 18, "{pods}");
    review::holds(b"");
}

/// The JSON Pointers of all values of a document, from the root down.
fn pointers(document: &Value) -> Vec<String> {
    let mut pointers = vec![String::new()];
    let mut at = 0;
    while at < pointers.len() {
        let here = pointers[at].clone();
        match document.pointer(&here).unwrap() {
            Value::Object(object) => {
                pointers.extend(
                    object
                        .keys()
                        .map(|key| format!("{here}/{}", key.replace('~', "~0").replace('/', "~1"))),
                );
            }
            Value::Array(list) => {
                pointers.extend((0..list.len()).map(|nth| format!("{here}/{nth}")));
            }
            _ => {}
        }
        at += 1;
    }
    pointers
}

/// Any JSON value of a limited size.
fn nonsense() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("customer")),
        Just(json!("bfb")),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(
                "(name|containers|bfb.dev/[a-z]{1,8}|[a-z]{0,6})",
                inner,
                0..4
            )
            .prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_review_with_nonsense_in_it_is_answered_as_promised(
        seed: Index,
        changes in proptest::collection::vec((any::<Index>(), nonsense()), 1..4),
    ) {
        let corpus = corpus();
        let documents = corpus.iter().filter_map(|data| serde_json::from_slice(data).ok());
        let corpus: Vec<Value> = documents.collect();
        let mut document = seed.get(&corpus).clone();
        for (pointer, value) in changes {
            let pointers = pointers(&document);
            let pointer: &String = pointer.get(&pointers);
            *document.pointer_mut(pointer).unwrap() = value;
        }
        review::holds(document.to_string().as_bytes());
    }

    #[test]
    fn a_review_whose_bytes_are_damaged_is_answered_as_promised(
        seed: Index,
        damage in proptest::collection::vec((any::<Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let corpus = corpus();
        let mut data = seed.get(&corpus).clone();
        for (offset, byte, kind) in damage {
            let offset = offset.index(data.len().max(1));
            match kind {
                0 if offset < data.len() => data[offset] = byte,
                1 => data.insert(offset.min(data.len()), byte),
                _ => data.truncate(offset),
            }
        }
        review::holds(&data);
    }
}
