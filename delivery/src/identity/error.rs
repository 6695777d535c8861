//! Why nobody was recognised.

use crate::control::{ControlError, KeyError, ServiceStatus};

/// Why nobody was recognised. The sentences tell a caller no more than "expired" or "not valid".
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No `Authorization` header.
    #[error("an Authorization header is needed")]
    Missing,
    /// Neither `Bearer` nor `Service`.
    #[error("the Authorization header must begin with Bearer or Service")]
    UnknownScheme,
    /// A token that we did not make, or not for this.
    #[error("the token is not valid")]
    BadToken,
    /// A token whose time is over.
    #[error("the token has expired")]
    Expired,
    /// A token whose time has not begun.
    #[error("the token is not valid yet")]
    NotYet,
    /// A service key that is unknown, revoked, expired or wrong.
    #[error("the service key is not valid")]
    BadKey,
    /// A known service that may not be heard now. Known, hence 403.
    #[error("the service is {0}")]
    ServiceInactive(ServiceStatus),
    /// A known user who is no admin. Known, hence 403.
    #[error("this needs an admin")]
    NotAdmin,
    /// A token of an issuer none of whose keys could be fetched yet.
    #[error("the token cannot be checked now")]
    NoKeys,
    /// Services cannot be looked up.
    #[error("service keys cannot be checked now")]
    Unavailable(#[source] Box<ControlError>),
}

impl AuthError {
    /// A metric label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::UnknownScheme => "unknown_scheme",
            Self::BadToken => "bad_token",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::BadKey => "bad_key",
            Self::ServiceInactive(_) => "service_inactive",
            Self::NotAdmin => "not_admin",
            Self::NoKeys => "no_keys",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// Whether what was shown never was ours: a guess, or a slip. An expired token was ours.
    #[must_use]
    pub const fn is_guess(&self) -> bool {
        match self {
            Self::BadToken | Self::BadKey => true,
            Self::Missing
            | Self::UnknownScheme
            | Self::Expired
            | Self::NotYet
            | Self::ServiceInactive(_)
            | Self::NotAdmin
            | Self::NoKeys
            | Self::Unavailable(_) => false,
        }
    }

    /// Every label.
    pub const LABELS: [&'static str; 10] = [
        "missing",
        "unknown_scheme",
        "bad_token",
        "expired",
        "not_yet",
        "bad_key",
        "service_inactive",
        "not_admin",
        "no_keys",
        "unavailable",
    ];
}

impl From<KeyError> for AuthError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Bad => Self::BadKey,
            KeyError::Inactive(status) => Self::ServiceInactive(status),
            KeyError::Unavailable(source) => Self::Unavailable(source),
        }
    }
}
