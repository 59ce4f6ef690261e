//! Any bytes as an admission review.
#![no_main]

#[path = "../properties/review.rs"]
mod review;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    review::holds(data);
});
