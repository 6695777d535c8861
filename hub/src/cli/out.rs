//! What the command line prints. Not `println!`, which panics when the reader is gone (`| head`).

use std::io::{self, Write};

/// Prints a line on stdout and lets it go at once.
pub(super) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Prints a line on stderr.
pub(super) fn note(text: &str) {
    // Nobody is left to be told where stderr is gone.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints an error with its causes on stderr.
pub(super) fn complain(error: &anyhow::Error) {
    note(&format!("pushhub: {error:#}"));
}

pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
