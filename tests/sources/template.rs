//! Key substitution: the corpus of the fuzz target, replayed.

#[path = "../../fuzz/properties/url_template.rs"]
mod url_template;

proptest::proptest! {
    #[test]
    fn no_key_at_all_leaves_its_place(data: Vec<u8>) {
        url_template::holds(&data);
    }
}

#[test]
fn no_key_of_the_corpus_leaves_its_place() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/url_template");
    let inputs: Vec<_> =
        std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(inputs.len() >= 12, "the corpus is there");
    for input in inputs {
        url_template::holds(&std::fs::read(input).unwrap());
    }
    url_template::holds(b"");
}
