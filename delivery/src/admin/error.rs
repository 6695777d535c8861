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
    /// Another admin has this address of mail.
    #[error("an admin of this email exists already")]
    EmailTaken,
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
    /// An issuer vouches for somebody who is no admin here.
    #[error(
        "nobody here is known by this login: an admin has to be made with its email, or given a role at the issuer"
    )]
    NotKnown,
    /// An issuer vouches for an admin who is disabled.
    #[error("this admin is disabled")]
    Disabled,
    /// Whoever shows `ADMIN_TOKEN`, or a user's token, has nothing of the kind.
    #[error("this is for admins who have logged in")]
    NoAccount,
    /// They log in at the issuer and have none.
    #[error("this admin has no password; another admin can give one")]
    NoPassword,
    /// There is nothing that a recovery code could stand in for.
    #[error("this admin has no second factor")]
    NoSecondFactor,
    /// The challenge is of no second factor that this admin is about to take.
    #[error("there is no such enrolment; begin again")]
    NoEnrolment,
    /// A wrong first code of a new second factor.
    #[error("the code is not right")]
    BadFirstCode,
    /// The password that is asked for again is not right.
    #[error("the password is not right")]
    BadPassword,
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
