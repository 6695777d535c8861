//! Who may connect, as far as this side must know.

use std::{net::IpAddr, sync::Arc, time::Duration};

use delivery::{
    InboxKey,
    account::{LoginMark, Unread},
    identity::UserCaller,
    preference::Silence,
    store::BoxFuture,
};
use protocol::{ErrorType, Time};

/// Checks what a client shows at the handshake and in `refresh`.
pub trait TokenVerifier: Send + Sync + 'static {
    /// Checks an access token.
    ///
    /// # Errors
    /// [`Refusal`] says what the client is told.
    fn verify_token(&self, token: &str) -> Result<UserCaller, Refusal>;

    /// Checks a one-time ticket, which is used up by that. Without tickets every one is refused.
    ///
    /// # Errors
    /// [`Refusal`] says what the client is told.
    fn redeem<'a>(&'a self, _ticket: &'a str) -> BoxFuture<'a, Result<UserCaller, Refusal>> {
        let refusal = Refusal::Unauthorized("there are no tickets here".to_owned());
        Box::pin(std::future::ready(Err(refusal)))
    }

    /// Whether a token that was good before is still to be believed, expiry aside. Cheap. Without
    /// revocation every one is.
    fn is_valid(&self, _inbox: &InboxKey, _login: &LoginMark) -> bool {
        true
    }

    /// Fetches the key that a token was signed with, where it is of another issuer and not known yet:
    /// for a check that is about to come and cannot wait. Nothing, where there are no other issuers.
    fn fetch_key<'a>(&'a self, _token: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// What a user who connects does not want to hear; none for everything. Without preferences everybody hears
    /// everything.
    ///
    /// # Errors
    /// [`Unread`] where that cannot be known now.
    fn silence<'a>(
        &'a self,
        _inbox: &'a InboxKey,
    ) -> BoxFuture<'a, Result<Option<Arc<Silence>>, Unread>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// A user came in from there, or came with a new token: what the token says of them is remembered.
    /// Cannot fail: nobody is sent away because it could not be written.
    fn note<'a>(&'a self, caller: &'a UserCaller, from: IpAddr) -> BoxFuture<'a, ()>;
}

/// Why a token was refused. The text is one sentence for the client and never holds the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// None, expired, revoked or unknown.
    #[error("{0}")]
    Unauthorized(String),
    /// Never one of ours. The client is told the same as otherwise; its address pays more.
    #[error("{0}")]
    Forged(String),
    /// Good, but this user may not connect.
    #[error("{0}")]
    Forbidden(String),
    /// It cannot be checked now.
    #[error("{0}")]
    Unavailable(String),
}

impl Refusal {
    pub(super) const fn kind(&self) -> ErrorType {
        match self {
            Self::Unauthorized(_) | Self::Forged(_) => ErrorType::Unauthorized,
            Self::Forbidden(_) => ErrorType::Forbidden,
            Self::Unavailable(_) => ErrorType::Unavailable,
        }
    }
}

/// How long the token is good for from now on. Nothing for one that was let in by the leeway for
/// clocks that differ.
pub(super) fn token_life(caller: &UserCaller, now: Time) -> Duration {
    let left = caller.expires_at.millis().saturating_sub(now.millis());
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}
