//! Files in the age v1 format (<https://age-encryption.org/v1>), which the stock `age` tool opens and makes.
//!
//! Of its recipients the two that it was made with: X25519 keys and passphrases (scrypt). The crate `age` was
//! rejected: it brings 85 crates, two that are not released yet among them, and a translation framework. The primitives
//! are those of aws-lc, which are here for TLS anyway.

mod bech32;
mod header;
mod keys;
mod stream;

pub use self::keys::KeyError;
pub(crate) use self::{
    header::MAGIC,
    keys::{Identity, Recipient},
    stream::{Decrypt, Encrypt},
};

/// A file cannot be decrypted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgeError {
    /// It does not begin as such a file does, or its header is another than was written.
    #[error("the age header is damaged")]
    Header,
    /// None of its recipients is this key.
    #[error("it was encrypted for another key")]
    OtherKey,
    /// It was encrypted with a passphrase, and the key is none; or the reverse.
    #[error("it was encrypted {0}")]
    OtherKind(&'static str),
    /// A part of it is not what was written, or is missing.
    #[error("it is damaged or cut off")]
    Damaged,
    /// A passphrase whose work factor is out of bounds.
    #[error("its work factor {0} is out of bounds; up to {max} are read", max = keys::LOG_N_READ_MAX)]
    Work(u8),
}

/// Out of randomness or memory: nothing that an input could bring about.
const FIXED: &str = "sizes of keys and nonces are fixed";

#[cfg(test)]
mod tests;
