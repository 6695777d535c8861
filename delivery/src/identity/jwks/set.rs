//! The keys of an issuer.

use serde::Deserialize;

use super::{
    super::jws::Jws,
    key::{KeyProblem, PublicJwk, VerifyingKey},
};

/// Most keys of a set that are used; an issuer has two to six. Others are left out, and the log says so.
pub const KEYS_MAX: usize = 64;

/// Why a text is no set of keys.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// No JSON object with a list `keys`.
    #[error("it is no JSON Web Key Set")]
    NotASet(#[source] serde_json::Error),
    /// Nothing in it can be used.
    #[error("it has no key that can be used")]
    Empty,
    /// No key in PEM.
    #[error("it is no public key in PEM that can be used")]
    NotPem(#[source] KeyProblem),
}

/// The keys of an issuer.
#[derive(Clone)]
pub struct KeySet(Vec<VerifyingKey>);

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(VerifyingKey::kid)).finish()
    }
}

impl KeySet {
    /// A JSON Web Key Set (RFC 7517 §5). Keys of other kinds and for other uses are left out, as its
    /// readers must; so is the second of two with the same name and algorithm.
    ///
    /// # Errors
    /// [`KeySetError::NotASet`], [`KeySetError::Empty`].
    pub fn of_json(text: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<serde_json::Value>,
        }
        let document: Document = serde_json::from_slice(text).map_err(KeySetError::NotASet)?;
        let mut keys: Vec<VerifyingKey> = Vec::new();
        let mut left_out = 0;
        for value in document.keys {
            // One that cannot even be read says nothing of the others.
            let key = serde_json::from_value::<PublicJwk>(value)
                .map_err(|_| KeyProblem::NotUsed)
                .and_then(|jwk| VerifyingKey::of_jwk(&jwk));
            let twin = |key: &VerifyingKey| {
                keys.iter().any(|known| known.kid() == key.kid() && known.word() == key.word())
            };
            match key {
                Ok(key) if keys.len() < KEYS_MAX && !(key.kid().is_some() && twin(&key)) => {
                    keys.push(key);
                }
                Ok(_) => left_out += 1,
                Err(problem) => {
                    tracing::debug!(%problem, "a key of a set is not used");
                }
            }
        }
        if left_out > 0 {
            tracing::warn!(left_out, "a set has too many keys, or several of the same name");
        }
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self(keys)) }
    }

    /// One public key in PEM. It has no name, and so checks tokens with any `kid`.
    ///
    /// # Errors
    /// [`KeySetError::NotPem`].
    pub fn of_pem(text: &[u8]) -> Result<Self, KeySetError> {
        Ok(Self(vec![VerifyingKey::of_pem(text).map_err(KeySetError::NotPem)?]))
    }

    /// A file: a set, or a key in PEM.
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn of_file(text: &[u8]) -> Result<Self, KeySetError> {
        if text.trim_ascii_start().starts_with(b"{") {
            Self::of_json(text)
        } else {
            Self::of_pem(text)
        }
    }

    pub(in crate::identity) fn of_keys(keys: Vec<VerifyingKey>) -> Self {
        Self(keys)
    }

    /// Whether the token's key may be here: one of its name and algorithm; for a token that names none
    /// the only one of its algorithm; where the only one has no name itself, that.
    pub(in crate::identity) fn choose(&self, jws: &Jws<'_>) -> Option<&VerifyingKey> {
        let mut able = self.0.iter().filter(|key| key.word() == jws.alg());
        match jws.kid() {
            Some(kid) => match able.clone().find(|key| key.kid() == Some(kid)) {
                Some(key) => Some(key),
                None => only(able.filter(|key| key.kid().is_none())),
            },
            None => only(able.by_ref()),
        }
    }

    /// Whether every key of this one is in the other one too.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.0.iter().all(|key| other.0.iter().any(|known| known.is_same(key)))
    }
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next();
    first.filter(|_| items.next().is_none())
}
