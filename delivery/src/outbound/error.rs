//! Why a call has no answer.

use super::dial::DialError;

/// Why a call has no answer that can be used. The URL is not in it: whoever called knows which it was.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// TLS cannot be used at all.
    #[error("TLS cannot be set up")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// [`super::CALLS_MAX`] calls went on all the time.
    #[error("too many calls to other programs go on")]
    Busy,
    /// It took longer than [`super::CALL_TIMEOUT`].
    #[error("no answer came in time")]
    Timeout,
    /// There is no connection.
    #[error("cannot connect")]
    NotConnected(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The address may not be called.
    #[error("the address is not allowed")]
    NotAllowed,
    /// The connection broke, or what came is no HTTP.
    #[error("the answer is broken")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// More than [`super::ANSWER_BYTES_MAX`].
    #[error("the answer is longer than {} bytes", super::ANSWER_BYTES_MAX)]
    TooLong,
    /// The answer is not the JSON that was expected. What stands in it is not told: it may be a
    /// token.
    #[error("the answer is not the JSON that was expected ({0})")]
    NotJson(&'static str),
}

impl OutboundError {
    /// A metric label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Setup(_) => "setup",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::NotConnected(_) => "not_connected",
            Self::NotAllowed => "not_allowed",
            Self::Broken(_) => "broken",
            Self::TooLong => "too_long",
            Self::NotJson(_) => "not_json",
        }
    }
}

impl From<DialError> for OutboundError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::NotAllowed => Self::NotAllowed,
            DialError::Broken(_) => Self::Broken(Box::new(error)),
            DialError::UnknownHost(_)
            | DialError::NoAnswer
            | DialError::NotConnected(_)
            | DialError::Tls(_) => Self::NotConnected(Box::new(error)),
        }
    }
}
