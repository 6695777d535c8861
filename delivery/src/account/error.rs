//! Why an account cannot be used or changed.

use super::{IDENTITIES_MAX, KeptPreferences};
use crate::{control::ControlError, sql::SqlError};

/// Why an account cannot be used or changed. The sentences of refused refresh tokens tell no more than
/// "expired" or "not valid".
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Not a refresh token of a session that goes on.
    #[error("the refresh token is not valid; log in again")]
    BadRefresh,
    /// A refresh token that was used before: somebody has a copy. Its session has ended.
    #[error("the refresh token was used before; log in again")]
    Reused,
    /// A refresh token whose time is over.
    #[error("the refresh token has expired; log in again")]
    Expired,
    /// An admin has disabled the user.
    #[error("the user is disabled")]
    UserDisabled,
    /// All that the user has is being deleted.
    #[error("the user is being deleted; come back in a moment")]
    BeingDeleted,
    /// The user is to be deleted by a login that may be somebody else's by now.
    #[error("this needs a login of the last {} minutes: log in again", super::FRESH_LOGIN.as_secs() / 60)]
    StaleLogin,
    /// A token that cannot be told from others of its user.
    #[error("the token has neither session_id nor jti, by which it could be revoked")]
    Nameless,
    /// No such session of this user.
    #[error("there is no such session")]
    NoSession,
    /// No such identity of this user.
    #[error("this login is not linked")]
    NoIdentity,
    /// Another user logs in by it.
    #[error("this login belongs to another user")]
    LinkedElsewhere,
    /// The provider says that its person is in another tenant than the user.
    #[error("this login is of another tenant than its user")]
    OtherTenant,
    /// Without it the user could not log in any more.
    #[error("this is the only login of the user; link another one first")]
    LastIdentity,
    /// [`IDENTITIES_MAX`] is reached.
    #[error("the user has {IDENTITIES_MAX} logins already, which is the most")]
    TooManyIdentities,
    /// Somebody else changed the preferences since; as they are now.
    #[error("the preferences have changed since that version")]
    PreferencesChanged(Box<KeptPreferences>),
    /// The database cannot.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl From<SqlError> for AccountError {
    fn from(error: SqlError) -> Self {
        Self::Control(error.into())
    }
}
