//! The `bfb` binary: see [`bfb::cli`].

#[cfg(feature = "removable-guards")]
compile_error!(
    "`bfb` serves with every guard of its protocol; without one, it is `--bin bfb-removable-guards`"
);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    bfb::cli::main()
}
