//! Shapes: the corpus of the fuzz target, replayed.

#[path = "../fuzz/properties/jq_program.rs"]
mod jq_program;

#[test]
fn whatever_a_shape_is_it_ends_within_its_budget_and_its_time() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/shape");
    let inputs: Vec<_> =
        std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(inputs.len() >= 30, "the corpus is there");
    let yielded =
        inputs.iter().filter(|input| jq_program::holds(&std::fs::read(input).unwrap())).count();
    assert!(yielded >= 10, "only {yielded} of the corpus yield a value");
}

#[test]
fn damaged_shapes_end_as_well() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/shape");
    for entry in std::fs::read_dir(corpus).unwrap() {
        let text = std::fs::read(entry.unwrap().path()).unwrap();
        for at in (0..text.len()).step_by(text.len() / 4 + 1) {
            jq_program::holds(&[&text[..at], &text[at + 1..]].concat());
        }
    }
}
