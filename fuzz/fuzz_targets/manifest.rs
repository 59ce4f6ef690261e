//! Any text as a manifest: no panic; it is refused with places that can be drawn, or nothing that
//! was there is touched, a second time changes nothing, and what was added can be taken away again.
#![no_main]

use std::path::Path;

use bfb::diagnostics::render;
use bfb::inject::Defaults;
use bfb::inject::manifest::{RewriteMode, rewrite};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let file = Path::new("fuzz.yaml");
    let defaults = Defaults::new(&["customer".to_owned()], &[]).unwrap();
    match rewrite(file, text, RewriteMode::Inject(&defaults)) {
        Err(problems) => assert!(!render(&problems, true).is_empty()),
        Ok(once) => {
            let mut bytes = once.text.bytes();
            assert!(text.bytes().all(|byte| bytes.any(|other| other == byte)));
            let twice = rewrite(file, &once.text, RewriteMode::Inject(&defaults)).unwrap();
            assert_eq!(twice.text, once.text);
            if once.text != text && !text.contains("bfb.dev/status") {
                assert_eq!(rewrite(file, &once.text, RewriteMode::Uninject).unwrap().text, text);
            }
        }
    }
});
