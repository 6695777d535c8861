//! Keys that this service signs its tokens with, where it does not do so with the shared secret.
//!
//! With `HS256` whoever checks a token could also make one. With RS256, ES256 or EdDSA other programs
//! check our tokens by the public halves at `/.well-known/jwks.json`. A rotation makes a key that is
//! published at once and signs after [`KEY_LEAD`]; the older ones go on checking until the tokens that
//! they signed have ended. [`SigningKeys::rotate_by_age`] does it by itself. Private halves are sealed with a key made of `JWT_SECRET` ([`SealingKey`]).
//!
//! **Limits.** [`SIGNING_KEYS_MAX`](crate::control::SIGNING_KEYS_MAX) keys; one more is refused.

mod keys;
mod mark;
mod pair;
mod seal;

pub use self::{
    keys::{KEY_LEAD, SigningError, SigningKey, SigningKeys},
    mark::KeyMark,
    seal::SealingKey,
};
#[cfg(test)]
pub(in crate::identity) use pair::Pair;

#[cfg(test)]
mod tests;
