//! `bfb` in a build whose guards can be taken away by `BFB_TEST_WITHOUT_GUARD`: what
//! `tests/history.rs` must find out.

fn main() -> std::process::ExitCode {
    bfb::cli::main()
}
