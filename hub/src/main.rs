//! The process. Everything is in the library, so that tests and other programs can start it too.

use std::process::ExitCode;

/// Thousands of connections allocate and free small buffers from all threads; glibc's arenas keep
/// what they once had, mimalloc gives it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hub::cli::main()
}
