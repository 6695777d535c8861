//! Where control data lives, for tests that hold wherever that is.

use tokio_postgres::NoTls;

use super::Control;
use crate::clock::SharedClock;

/// A place with nothing in it at first.
pub(crate) trait Place: Sync {
    fn new() -> Self;

    /// One more process or node that uses it.
    fn open(&self) -> Control;
}

/// A folder with a `control.db`.
pub(crate) struct Folder(pub(crate) tempfile::TempDir);

impl Place for Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Control {
        Control::open(self.0.path()).unwrap()
    }
}

/// A database in PostgreSQL, by its address.
pub(crate) struct Postgres(pub(crate) String);

impl Place for Postgres {
    fn new() -> Self {
        Self(servers::empty_database())
    }

    fn open(&self) -> Control {
        Control::open_postgres(self.0.parse().unwrap(), NoTls, SharedClock::default()).unwrap()
    }
}

/// Makes tests of functions that take a [`Place`], for each that there is.
macro_rules! everywhere {
    ($($test:ident),* $(,)?) => {
        mod in_a_file {
            $(#[test] fn $test() { super::$test::<$crate::control::tests::place::Folder>(); })*
        }
        mod in_postgres {
            $(#[test] fn $test() { super::$test::<$crate::control::tests::place::Postgres>(); })*
        }
    };
}
pub(crate) use everywhere;
