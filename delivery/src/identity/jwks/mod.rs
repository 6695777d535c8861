//! Keys by which tokens are checked: which ones are believed, and how those of an issuer come here.
//!
//! A key has one algorithm, told by the key and not by the token that is checked (RFC 8725 §3.1). Keys
//! belong to an issuer: one that is called the same by two issuers is two keys.

mod key;
mod remote;
mod set;

pub use self::{
    key::{KeyProblem, PublicJwk, RSA_BITS_MAX, RSA_BITS_MIN, SigningAlgorithm},
    remote::{COOL_DOWN, IssuerKeys, KEYS_LIFETIME, KEYS_STALE_MAX, KeysError, TokenProblem},
    set::{KEYS_MAX, KeySet, KeySetError},
};
pub(in crate::identity) use key::VerifyingKey;

#[cfg(test)]
mod tests;
