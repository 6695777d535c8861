//! Whether the chain holds.

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    chain::{FIRST, Hash, hash},
    rows,
};
use crate::{
    control::{Control, ControlError},
    sql::values,
    words::words,
};

/// Entries that are read at once: some hundred kilobytes, and the control data is free in between.
const PAGE: usize = 500;

words! {
    /// What is wrong.
    Verdict {
        /// Nothing.
        Whole = "whole",
        /// An entry is missing.
        Missing = "missing",
        /// An entry is not as it was written, or one before it was changed together with its hash.
        Changed = "changed",
        /// The entry that was remembered is not there, or has another hash: all before it was written anew, or
        /// the end was cut off.
        Forgotten = "forgotten",
    }
}

/// What came of a look at the whole chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "AuditVerified")]
pub struct Verified {
    /// What is wrong.
    pub verdict: Verdict,
    /// Entries that hold together, from the first one on.
    pub entries: u64,
    /// The place of the first entry that is wrong; null where none is.
    pub first_wrong: Option<u64>,
    /// The hash of the last entry that holds: to be kept elsewhere.
    pub hash: Hash,
}

pub(super) fn verify(
    control: &Control,
    remembered: Option<(u64, Hash)>,
) -> Result<Verified, ControlError> {
    let (mut seq, mut previous) = (0, FIRST);
    let found =
        |verdict, entries, hash, first_wrong| Ok(Verified { verdict, entries, first_wrong, hash });
    loop {
        let sql = rows::TABLES[0].page;
        let page =
            control.read(|database| Ok::<_, ControlError>(database.glance(sql, &values![seq])?))?;
        let count = page.len();
        for row in page {
            // A row that cannot even be read is not as it was written.
            let Ok((at, entry, stands)) = rows::read(row) else {
                return found(Verdict::Changed, seq, previous, Some(seq + 1));
            };
            if at != seq + 1 {
                return found(Verdict::Missing, seq, previous, Some(seq + 1));
            }
            let right = hash(previous, &entry.row(at));
            if right != stands {
                return found(Verdict::Changed, seq, previous, Some(at));
            }
            if remembered.is_some_and(|(place, hash)| place == at && hash != right) {
                return found(Verdict::Forgotten, seq, previous, Some(at));
            }
            (seq, previous) = (at, right);
        }
        if count < PAGE {
            break;
        }
    }
    match remembered {
        Some((place, _)) if place > seq => found(Verdict::Forgotten, seq, previous, Some(seq + 1)),
        Some((0, hash)) if hash != FIRST => found(Verdict::Forgotten, 0, FIRST, Some(1)),
        Some(_) | None => found(Verdict::Whole, seq, previous, None),
    }
}
