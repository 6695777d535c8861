//! Why an admin is refused.

use protocol::FieldProblem;

use super::ADMINS_MAX;
use crate::{account::AccountError, control::ControlError, guard::Guarded, sql::SqlError};

/// Why an admin can neither be let in nor changed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No such admin, or it is another tenant's.
    #[error("there is no such admin")]
    NotFound,
    /// Fields are not valid.
    #[error("the admin is not valid")]
    Invalid(Vec<FieldProblem>),
    /// Another admin has this name.
    #[error("an admin of this username exists already")]
    NameTaken,
    /// [`ADMINS_MAX`] is reached.
    #[error("there are {ADMINS_MAX} admins already, which is the most")]
    TooMany,
    /// A wrong password, an unknown name, or an admin who is disabled: whoever guesses is not told which.
    #[error("the username or password is not right")]
    BadLogin,
    /// The challenge is unknown, used up or too old.
    #[error("the challenge is not valid; log in again")]
    BadChallenge,
    /// A wrong code, or one that was used before.
    #[error("the code is not right")]
    BadCode,
    /// Too many wrong attempts.
    #[error(transparent)]
    Guarded(#[from] Guarded),
    /// Too many passwords are being checked.
    #[error("too many are logging in; try again")]
    Busy,
    /// The control data cannot be used.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl From<SqlError> for AdminError {
    fn from(error: SqlError) -> Self {
        Self::Control(error.into())
    }
}

impl From<AccountError> for AdminError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Control(error) => Self::Control(error),
            // Nothing else can happen to a secret that is kept or taken.
            _ => Self::BadChallenge,
        }
    }
}
