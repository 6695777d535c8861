//! Numbered migrations of a PostgreSQL database, and which of them are to be run.
//!
//! Each is run once, under a lock, so that nodes may start at the same time. A migration may only add to
//! what an older build uses, and what it takes away nobody has used for a version: then nodes of two
//! versions work side by side while one replaces the other. A database that is newer than known is
//! refused, unless it says that it may be used.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// A migration. Lists of them are numbered from one.
pub(crate) struct Migration {
    pub(crate) version: i64,
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

impl Migration {
    pub(crate) fn checksum(&self) -> String {
        Sha256::digest(self.sql).iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// One that was run, as the database remembers it.
pub(crate) struct Ran {
    pub(crate) version: i64,
    pub(crate) checksum: String,
    /// Builds that know this many may use what it left.
    pub(crate) compatible_from: i64,
}

/// From which version to which a database was brought; 0 for one without tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// As it was found.
    pub from: i64,
    /// As it is now.
    pub to: i64,
}

/// How a part's tables stand, where nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// The latest migration that was run; 0 where there are no tables.
    pub version: i64,
    /// Whether a node that starts has nothing to do there.
    pub is_current: bool,
}

/// The database is not one that this build may use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// A newer build made it into something this one does not know.
    Newer {
        /// Of the database.
        found: i64,
        /// Of this build.
        known: i64,
    },
    /// A migration that was run is not the one of this build.
    Changed(i64),
}

/// Those that were not run.
pub(crate) fn missing(
    all: &'static [Migration],
    ran: &[Ran],
) -> Result<&'static [Migration], Unfit> {
    let known = all.last().map_or(0, |last| last.version);
    let mut latest = 0;
    for Ran { version, checksum, compatible_from } in ran {
        match all.iter().find(|migration| migration.version == *version) {
            Some(migration) if migration.checksum() != *checksum => {
                return Err(Unfit::Changed(*version));
            }
            None if *compatible_from > known => {
                return Err(Unfit::Newer { found: *version, known });
            }
            Some(_) | None => latest = latest.max(*version),
        }
    }
    Ok(&all[all.partition_point(|migration| migration.version <= latest)..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Migration] = &[
        Migration { version: 1, name: "a", sql: "A" },
        Migration { version: 2, name: "b", sql: "B" },
    ];

    fn ran(version: i64, sql: &'static str, compatible_from: i64) -> Ran {
        let checksum = Migration { version, name: "", sql }.checksum();
        Ran { version, checksum, compatible_from }
    }

    fn left(ran: &[Ran]) -> Result<Vec<i64>, Unfit> {
        Ok(missing(ALL, ran)?.iter().map(|migration| migration.version).collect())
    }

    #[test]
    fn what_was_not_run_is_missing_and_what_is_not_known_is_refused() {
        assert_eq!(left(&[]), Ok(vec![1, 2]));
        assert_eq!(left(&[ran(1, "A", 1)]), Ok(vec![2]));
        assert_eq!(left(&[ran(1, "A", 1), ran(2, "B", 1)]), Ok(vec![]));
        assert_eq!(left(&[ran(1, "A", 1), ran(2, "C", 1)]), Err(Unfit::Changed(2)));
        let of_next = |compatible_from| [ran(2, "B", 1), ran(3, "C", compatible_from)];
        assert_eq!(left(&of_next(2)), Ok(vec![]));
        assert_eq!(left(&of_next(3)), Err(Unfit::Newer { found: 3, known: 2 }));
    }
}
