//! The `bfb` binary.

fn main() {}
