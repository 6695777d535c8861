//! Why nobody was recognised.

use std::net::IpAddr;

use crate::admin::Role;
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
    /// A token that was ours and is void: logged out, or revoked.
    #[error("the token was revoked; log in again")]
    Revoked,
    /// A ticket that is unknown, used or too old.
    #[error("the ticket is not valid")]
    BadTicket,
    /// A known user whom an admin has disabled. Known, hence 403.
    #[error("the user is disabled")]
    UserDisabled,
    /// A service key that is unknown, revoked, expired or wrong.
    #[error("the service key is not valid")]
    BadKey,
    /// A key of a known service, from where it may not be used. Known, hence 403.
    #[error("the service key may not be used from {0}")]
    KeyAddress(IpAddr),
    /// A known service that may not be heard now. Known, hence 403.
    #[error("the service is {0}")]
    ServiceInactive(ServiceStatus),
    /// A known user who is no admin. Known, hence 403.
    #[error("this needs an admin")]
    NotAdmin,
    /// A known admin whose role does not reach. Known, hence 403.
    #[error("this needs an admin of role {0}")]
    Role(Role),
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
            Self::Revoked => "revoked",
            Self::BadTicket => "bad_ticket",
            Self::UserDisabled => "user_disabled",
            Self::BadKey => "bad_key",
            Self::KeyAddress(_) => "key_address",
            Self::ServiceInactive(_) => "service_inactive",
            Self::NotAdmin => "not_admin",
            Self::Role(_) => "role",
            Self::NoKeys => "no_keys",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// Whether what was shown never was ours: a guess, or a slip. An expired token was ours.
    #[must_use]
    pub const fn is_guess(&self) -> bool {
        match self {
            Self::BadToken | Self::BadKey | Self::BadTicket => true,
            Self::Missing
            | Self::UnknownScheme
            | Self::Expired
            | Self::NotYet
            | Self::Revoked
            | Self::UserDisabled
            | Self::KeyAddress(_)
            | Self::ServiceInactive(_)
            | Self::NotAdmin
            | Self::Role(_)
            | Self::NoKeys
            | Self::Unavailable(_) => false,
        }
    }

    /// Every label.
    pub const LABELS: [&'static str; 15] = [
        "missing",
        "unknown_scheme",
        "bad_token",
        "expired",
        "not_yet",
        "revoked",
        "bad_ticket",
        "user_disabled",
        "bad_key",
        "key_address",
        "service_inactive",
        "not_admin",
        "role",
        "no_keys",
        "unavailable",
    ];
}

impl From<KeyError> for AuthError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Bad => Self::BadKey,
            KeyError::Address(from) => Self::KeyAddress(from),
            KeyError::Inactive(status) => Self::ServiceInactive(status),
            KeyError::Unavailable(source) => Self::Unavailable(source),
        }
    }
}
