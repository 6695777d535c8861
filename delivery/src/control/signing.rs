//! The keys that tokens are signed with, as rows. What they mean is `identity::signing`'s.

use protocol::Time;

use super::{Control, ControlError};
use crate::sql::{Row, Statements, values};

/// Most keys that are kept at a time: one that signs, one that will, and those whose tokens still
/// live. Every token without a name of its key is tried with the only one of its algorithm, and all of
/// them are published.
pub const SIGNING_KEYS_MAX: usize = 8;

/// A key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SigningKeyRow {
    pub(crate) kid: String,
    pub(crate) algorithm: String,
    /// JSON.
    pub(crate) public: String,
    /// Encrypted; base64.
    pub(crate) sealed: String,
    pub(crate) created_at: Time,
    pub(crate) signs_from: Time,
    pub(crate) ends_at: Option<Time>,
}

impl SigningKeyRow {
    /// Whether it still checks tokens.
    pub(crate) fn is_alive(&self, now: Time) -> bool {
        self.ends_at.is_none_or(|end| end > now)
    }
}

fn all(database: &mut dyn Statements) -> Result<Vec<SigningKeyRow>, ControlError> {
    let sql = "SELECT kid, algorithm, public, sealed, created_at, signs_from, ends_at \
               FROM control_signing_key ORDER BY signs_from, kid";
    database.rows(sql, &[])?.into_iter().map(read).collect()
}

fn read(mut row: Row) -> Result<SigningKeyRow, ControlError> {
    Ok(SigningKeyRow {
        kid: row.text()?,
        algorithm: row.text()?,
        public: row.text()?,
        sealed: row.text()?,
        created_at: row.time()?,
        signs_from: row.time()?,
        ends_at: row.maybe_time()?,
    })
}

impl Control {
    /// All keys, the one that signs from the earliest time first. Waits for the database.
    pub(crate) fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, ControlError> {
        self.shared.reading()?.database.look(all)
    }

    /// Replaces the keys by what `work` makes of them; nobody else changes them meanwhile. Waits for the
    /// database.
    pub(crate) fn change_signing_keys<E: From<ControlError>>(
        &self,
        work: impl FnOnce(&mut Vec<SigningKeyRow>) -> Result<(), E>,
    ) -> Result<Vec<SigningKeyRow>, E> {
        let mut refused = None;
        let changed = self.shared.writing()?.change(|database| {
            let mut rows = all(database)?;
            let before = rows.clone();
            if let Err(error) = work(&mut rows) {
                refused = Some(error);
                return Ok::<_, ControlError>(before);
            }
            for gone in before.iter().filter(|row| !rows.contains(row)) {
                let sql = "DELETE FROM control_signing_key WHERE kid = $1";
                database.execute(sql, &values![&gone.kid])?;
            }
            for new in rows.iter().filter(|row| !before.contains(row)) {
                database.execute(
                    "INSERT INTO control_signing_key (kid, algorithm, public, sealed, created_at, \
                     signs_from, ends_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
                    &values![
                        &new.kid,
                        &new.algorithm,
                        &new.public,
                        &new.sealed,
                        new.created_at,
                        new.signs_from,
                        new.ends_at,
                    ],
                )?;
            }
            Ok(rows)
        });
        match refused {
            Some(error) => Err(error),
            None => Ok(changed?),
        }
    }
}
