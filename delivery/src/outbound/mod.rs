//! Calls to other programs: login providers, the keys of issuers, the collector of spans, the webhooks of services.
//!
//! What is common to them is here once: a URL that was taken apart and judged ([`OutboundUrl`]), a
//! connection to the very address that was judged (`dial`), and where calls may lead (`address`).
//! [`Outbound`] makes single calls with it; webhooks keep connections of their own.
//!
//! **Limits.** A call ends after [`CALL_TIMEOUT`], an answer has at most [`ANSWER_BYTES_MAX`],
//! [`CALLS_MAX`] go on at a time. No redirect is followed: where it leads was not judged, and every
//! provider answers its API directly.

mod address;
mod client;
mod dial;
mod error;
mod metrics;
mod target;
mod url;

pub(crate) use self::{
    address::Allowed,
    dial::{DialError, Dialer, Hold, Resolve, SystemResolver, Wire, system_roots},
    target::Target,
};
pub use self::{
    client::{ANSWER_BYTES_MAX, Answer, CALL_TIMEOUT, CALLS_MAX, Call, Outbound},
    error::OutboundError,
    metrics::{ALL as METRICS, Purpose},
    target::URL_BYTES_MAX,
    url::{OutboundUrl, UrlProblem},
};

#[cfg(test)]
mod tests;
