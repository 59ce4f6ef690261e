//! Any text as a jq program with an input, under a budget and a clock.
#![no_main]

#[path = "../properties/jq_program.rs"]
mod jq_program;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    jq_program::holds(data);
});
