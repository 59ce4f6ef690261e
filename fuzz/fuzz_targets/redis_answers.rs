//! Any bytes as what stands in Redis, or as what a server answers.
#![no_main]

#[path = "../properties/redis_answers.rs"]
mod redis_answers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    redis_answers::holds(data);
});
