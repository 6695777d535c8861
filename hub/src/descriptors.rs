//! The process's limit of open descriptors: each socket is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most this process may ever have; `usize::MAX` where there is no limit.
#[must_use]
pub fn hard_limit() -> usize {
    as_count(getrlimit(Resource::Nofile).maximum)
}

/// Raises the limit to the most it may be, and answers what it is now: shells start programs with
/// 1,024, whatever the machine can do.
pub fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return as_count(current);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => as_count(maximum),
        Err(error) => {
            tracing::warn!(%error, ?current, ?maximum, "the limit of descriptors cannot be raised");
            as_count(current)
        }
    }
}

fn as_count(limit: Option<u64>) -> usize {
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}
