#!/bin/sh
# Builds the program of the image: static, for the machine that builds, and says where it is. glibc resolves names in a static
# program without any file beside it from 2.34 on.
set -eu
cd "$(dirname "$0")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
fold=
# Functions that come to the same code are kept once: 0.7 MB. Where Rust brings its own linker, which can.
[ "$target" != x86_64-unknown-linux-gnu ] || fold='-C link-arg=-Wl,--icf=all'
# shellcheck disable=SC2086 # several words, or none
RUSTFLAGS='-C target-feature=+crt-static' cargo rustc --release --locked --bin bfb --target "$target" -- $fold >&2
echo "${CARGO_TARGET_DIR:-target}/$target/release/bfb"
