//! jaq itself as the judge: where both have an answer it is the same one.

use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, data, unwrap_valr};
use jaq_json::{Val, read};

use super::{SMALL, outcome};

/// The result of jaq; `None` where it fails or yields other than one value.
fn jaq(program: &str, input: &str) -> Option<String> {
    let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let arena = Arena::default();
    let modules = Loader::new(defs).load(&arena, File { code: program, path: () }).ok()?;
    let filter = Compiler::default().with_funs(funs).compile(modules).ok()?;
    let ctx = Ctx::<data::JustLut<Val>>::new(&filter.lut, Vars::new([]));
    let mut results =
        filter.id.run((ctx, read::parse_single(input.as_bytes()).ok()?)).map(unwrap_valr);
    let first = results.next()?.ok()?;
    results.next().is_none().then(|| first.to_string())
}

fn parsed(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn ordinary_programs_yield_what_jaq_yields() {
    const INPUTS: [&str; 3] = [
        r#"{"s":"a,b é","n":1.10,"i":-7,"o":{"x":1,"y":null,"z":[true,false]},"a":[3,1,2,1],
            "e":[],"r":[{"k":"b","v":2},{"k":"a","v":1},{"k":"b","v":0}]}"#,
        r#"{"s":"","n":0,"i":100000000000000000000000000001,"o":{},"a":[null],"e":{},"r":[]}"#,
        r#"{"s":"x","n":null,"i":5,"o":null,"a":["a","b"],"e":"e","r":[{"k":"é","v":[1]}]}"#,
    ];
    let mut agreed = 0;
    let mut wrong = Vec::new();
    for program in
        include_str!("../corpus/agreed.txt").lines().filter(|line| !line.starts_with('#'))
    {
        for input in INPUTS {
            if let ("ok", ours) = outcome(program, input, SMALL)
                && let Some(theirs) = jaq(program, input)
            {
                // As values: where members are deleted jaq changes their order.
                if parsed(&ours) != parsed(&theirs) {
                    wrong.push(format!(
                        "{program} over {input}\n    ours {ours}\n    jaq  {theirs}"
                    ));
                }
                agreed += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(agreed > 150, "only {agreed} have an answer of both");
}
