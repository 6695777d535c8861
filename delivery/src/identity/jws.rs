//! Signed tokens as they come in: JWS, compact form (RFC 7515 §3.1, RFC 8725).
//!
//! Nothing in a token chooses how it is checked. Its `alg` and `kid` only pick among keys that are
//! known already, each of which has one algorithm; `jku`, `jwk`, `x5u` and `x5c` are never looked at.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::crypto;
use serde::{Deserialize, de::DeserializeOwned, de::IgnoredAny};

use super::jwks::VerifyingKey;

/// Longest token, in bytes: a header line is at most 16 KiB, and every byte is hashed.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Longest `kid`, in bytes.
pub(super) const KID_BYTES_MAX: usize = 256;

/// The words of `typ` that an access token or an id token may have. Others are made for something
/// else: a logout, a refresh (RFC 8725 §3.11).
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// The text is no token of which anything could be checked, or its signature is wrong. Why is nobody's
/// business who forges one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is not valid")]
pub struct BadJws;

/// What is read of a header. One that stands twice makes it bad: which of the two counts is anybody's
/// guess.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    // Whoever demands an extension, another form of the payload, or encrypts, means a reader that
    // does it (RFC 7515 §4.1.11, RFC 7797, RFC 7516).
    #[serde(default)]
    crit: Option<IgnoredAny>,
    #[serde(default)]
    b64: Option<IgnoredAny>,
    #[serde(default)]
    enc: Option<IgnoredAny>,
    #[serde(default)]
    zip: Option<IgnoredAny>,
}

/// A token that was taken apart. Nothing of it is believed yet.
pub(super) struct Jws<'a> {
    message: &'a str,
    payload: Vec<u8>,
    signature: &'a str,
    alg: String,
    kid: Option<String>,
}

/// Its own base64: without padding, and with nothing in the bits that mean nothing, so that a token
/// has one spelling.
fn decode(text: &str) -> Result<Vec<u8>, BadJws> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| BadJws)
}

impl<'a> Jws<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`BadJws`]: longer than [`TOKEN_BYTES_MAX`], not three parts of base64url, a header that is no
    /// JSON object, names a field twice, or demands what is not done here.
    pub(super) fn read(token: &'a str) -> Result<Self, BadJws> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadJws);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(BadJws)?;
        let (header, payload) = message.split_once('.').ok_or(BadJws)?;
        if payload.contains('.') {
            return Err(BadJws);
        }
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| BadJws)?;
        let known = |typ: &str| TYPES.iter().any(|t| typ.eq_ignore_ascii_case(t));
        if header.typ.as_deref().is_some_and(|typ| !known(typ))
            || header.kid.as_ref().is_some_and(|kid| kid.is_empty() || kid.len() > KID_BYTES_MAX)
            || header.crit.is_some()
            || header.b64.is_some()
            || header.enc.is_some()
            || header.zip.is_some()
        {
            return Err(BadJws);
        }
        let payload = decode(payload)?;
        Ok(Self { message, payload, signature, alg: header.alg, kid: header.kid })
    }

    /// What the header says of the algorithm.
    pub(super) fn alg(&self) -> &str {
        &self.alg
    }

    /// Which key it names.
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The claims. Before [`Jws::verify`] they are what anybody may have written.
    pub(super) fn claims<C: DeserializeOwned>(&self) -> Result<C, BadJws> {
        serde_json::from_slice(&self.payload).map_err(|_| BadJws)
    }

    /// Whether this key signed it; not, where the token says another algorithm than the key's.
    pub(super) fn verify(&self, key: &VerifyingKey) -> Result<(), BadJws> {
        let alg = key.algorithm();
        if self.alg != key.word() || self.signature.is_empty() {
            return Err(BadJws);
        }
        match crypto::verify(self.signature, self.message.as_bytes(), key.decoding(), alg) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(BadJws),
        }
    }
}
