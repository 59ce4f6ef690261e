//! Key substitution under arbitrary keys and values.
#![no_main]

#[path = "../properties/url_template.rs"]
mod url_template;

libfuzzer_sys::fuzz_target!(|data: &[u8]| url_template::holds(data));
