//! Any text as a jq program with an input, under a budget and a clock.
#![no_main]

#[path = "../properties/shape.rs"]
mod shape;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    shape::holds(data);
});
