//! Any text as a domain file: no panic, and every problem lies inside the text and can be drawn.
#![no_main]

use std::path::Path;

use bfb::diagnostics::render;
use bfb::domain::{ProgramProblem, World, parse};
use libfuzzer_sys::fuzz_target;

/// Refuses `@` at its place, so that places in programs are mapped back.
fn program(text: &str) -> Result<(), ProgramProblem> {
    match text.find('@') {
        Some(at) => Err(ProgramProblem {
            at: at..at + 1,
            message: "unexpected `@`".into(),
            expected: "a term".into(),
            hint: "remove it".into(),
        }),
        None => Ok(()),
    }
}

fuzz_target!(|text: &str| {
    let world = World {
        variable: &|name| match name {
            "A" => Some("ä b".into()),
            "N" => Some("7".into()),
            "F_FILE" => Some("f".into()),
            _ => None,
        },
        read: &|_| Ok("{}\n".into()),
        program: &program,
        allow_http: false, allow_https: true,
    };
    if let Err(problems) = parse(Path::new("fuzz.yaml"), text, world) {
        assert!(!problems.is_empty());
        for problem in &problems {
            assert!(text.get(problem.span.clone()).is_some());
        }
        assert!(!render(&problems, true).is_empty());
    }
});
