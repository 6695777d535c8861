//! One public key.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, jwk::Jwk};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::jws::KID_BYTES_MAX;
use crate::words::words;

words! {
    /// What signs tokens beside a shared secret (RFC 7518 §3.1, RFC 8037).
    SigningAlgorithm {
        /// RSA of 2048 bits and more, PKCS #1 v1.5, SHA-256.
        Rs256 = "RS256",
        /// ECDSA on P-256, SHA-256.
        Es256 = "ES256",
        /// Ed25519.
        EdDsa = "EdDSA",
    }
}

impl SigningAlgorithm {
    pub(in crate::identity) const fn of_library(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// Fewest bits of an RSA key (RFC 7518 §3.3).
pub const RSA_BITS_MIN: usize = 2_048;

/// Most bits of an RSA key: a check takes time with their square.
pub const RSA_BITS_MAX: usize = 8_192;

/// Largest exponent of an RSA key, in bytes; everybody has 65537. A check takes time with it.
const RSA_EXPONENT_BYTES_MAX: usize = 4;

/// Bytes of a coordinate on P-256, and of a key on Ed25519.
const POINT_BYTES: usize = 32;

/// Why a key is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// Of a kind, on a curve or for an algorithm that is not used here. A shared secret (`oct`) is one:
    /// whoever can read the set could sign.
    #[error("it is not for RS256, ES256 or EdDSA (Ed25519)")]
    NotUsed,
    /// It is there to encrypt, or to sign with.
    #[error("it is not there to check signatures")]
    OtherUse,
    /// RSA with less than [`RSA_BITS_MIN`] or more than [`RSA_BITS_MAX`] bits.
    #[error("an RSA key must have {RSA_BITS_MIN} to {RSA_BITS_MAX} bits")]
    Size,
    /// A number is missing, no base64url, or impossible.
    #[error("its numbers are no key")]
    Numbers,
    /// A `kid` that is empty or too long.
    #[error("its kid is empty or longer than {KID_BYTES_MAX} bytes")]
    Kid,
}

/// A public key as it stands in a set (RFC 7517 §4, RFC 7518 §6). What is not named here is not
/// looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "JsonWebKey")]
pub struct PublicJwk {
    /// `RSA`, `EC` or `OKP`.
    pub kty: String,
    /// `sig`.
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    /// What may be done with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ops: Option<Vec<String>>,
    /// The only algorithm it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The curve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    /// RSA: modulus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    /// RSA: exponent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
    /// A point's x, or an Ed25519 key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// A point's y.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
}

/// A key that checks signatures, with its one algorithm.
#[derive(Clone)]
pub(in crate::identity) struct VerifyingKey {
    kid: Option<String>,
    word: &'static str,
    algorithm: Algorithm,
    decoding: DecodingKey,
    /// Its numbers, one after the other, to tell whether it is the same key. None of a secret.
    numbers: Vec<u8>,
}

impl VerifyingKey {
    /// The secret that this node signs with.
    pub(in crate::identity) fn hs256(secret: &[u8]) -> Self {
        Self {
            kid: None,
            word: "HS256",
            algorithm: Algorithm::HS256,
            decoding: DecodingKey::from_secret(secret),
            numbers: Vec::new(),
        }
    }

    /// A key of a set.
    pub(in crate::identity) fn of_jwk(jwk: &PublicJwk) -> Result<Self, KeyProblem> {
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig")
            || jwk.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
        {
            return Err(KeyProblem::OtherUse);
        }
        if jwk.kid.as_ref().is_some_and(|kid| kid.is_empty() || kid.len() > KID_BYTES_MAX) {
            return Err(KeyProblem::Kid);
        }
        let algorithm = match (&*jwk.kty, jwk.crv.as_deref()) {
            ("RSA", _) => SigningAlgorithm::Rs256,
            ("EC", Some("P-256")) => SigningAlgorithm::Es256,
            ("OKP", Some("Ed25519")) => SigningAlgorithm::EdDsa,
            _ => return Err(KeyProblem::NotUsed),
        };
        // RFC 9864 has a second name for the same thing.
        let says = jwk.alg.as_deref().map(|alg| if alg == "Ed25519" { "EdDSA" } else { alg });
        if says.is_some_and(|alg| alg != algorithm.as_str()) {
            return Err(KeyProblem::NotUsed);
        }
        let (decoding, numbers) = match algorithm {
            SigningAlgorithm::Rs256 => rsa(&number(&jwk.n)?, &number(&jwk.e)?)?,
            SigningAlgorithm::Es256 => {
                let point = on_curve(&number(&jwk.x)?, &number(&jwk.y)?)?;
                (DecodingKey::from_ec_der(&point), point)
            }
            SigningAlgorithm::EdDsa => {
                let x = number(&jwk.x)?;
                if x.len() != POINT_BYTES {
                    return Err(KeyProblem::Numbers);
                }
                (DecodingKey::from_ed_der(&x), x)
            }
        };
        let (kid, word) = (jwk.kid.clone(), algorithm.as_str());
        Ok(Self { kid, word, algorithm: algorithm.of_library(), decoding, numbers })
    }

    /// A public key in PEM (RFC 7468): `PUBLIC KEY` of any kind that is used here, or
    /// `RSA PUBLIC KEY`. Its kind is told by what is inside.
    pub(in crate::identity) fn of_pem(pem: &[u8]) -> Result<Self, KeyProblem> {
        let kinds = [
            (SigningAlgorithm::Rs256, DecodingKey::from_rsa_pem(pem)),
            (SigningAlgorithm::Es256, DecodingKey::from_ec_pem(pem)),
            (SigningAlgorithm::EdDsa, DecodingKey::from_ed_pem(pem)),
        ];
        for (algorithm, key) in kinds {
            let Ok(key) = key else { continue };
            // By way of its numbers, so that it is judged as one of a set is.
            let jwk = Jwk::from_decoding_key(&key, Some(algorithm.of_library()))
                .map_err(|_| KeyProblem::Numbers)?;
            let jwk = serde_json::to_value(jwk).map_err(|_| KeyProblem::Numbers)?;
            let jwk = serde_json::from_value(jwk).map_err(|_| KeyProblem::Numbers)?;
            return Self::of_jwk(&jwk);
        }
        Err(KeyProblem::NotUsed)
    }

    /// Whether it is the same key under the same name.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.kid == other.kid && self.word == other.word && self.numbers == other.numbers
    }

    /// What it is called.
    pub(in crate::identity) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Its algorithm, as `alg` has it.
    pub(in crate::identity) const fn word(&self) -> &'static str {
        self.word
    }

    pub(in crate::identity) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(in crate::identity) const fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

fn number(text: &Option<String>) -> Result<Vec<u8>, KeyProblem> {
    let text = text.as_deref().ok_or(KeyProblem::Numbers)?;
    // Some write the padding that RFC 7515 §2 leaves out; a key has no other spelling to be told by.
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| KeyProblem::Numbers)
}

fn rsa(n: &[u8], e: &[u8]) -> Result<(DecodingKey, Vec<u8>), KeyProblem> {
    let trim = |number: &[u8]| -> Vec<u8> {
        number.iter().copied().skip_while(|byte| *byte == 0).collect()
    };
    let (n, e) = (trim(n), trim(e));
    let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err(KeyProblem::Size);
    }
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    // With 1 every text is its own signature.
    if !odd(&n) || !odd(&e) || e == [1] || e.len() > RSA_EXPONENT_BYTES_MAX {
        return Err(KeyProblem::Numbers);
    }
    Ok((DecodingKey::from_rsa_raw_components(&n, &e), [n, e].concat()))
}

/// A point that is not on the curve would make every check fail, one by one; here the log says it once.
fn on_curve(x: &[u8], y: &[u8]) -> Result<Vec<u8>, KeyProblem> {
    if x.len() != POINT_BYTES || y.len() != POINT_BYTES {
        return Err(KeyProblem::Numbers);
    }
    // SEC 1 §2.3.3, without compression.
    let point = [&[4], x, y].concat();
    match ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point) {
        Ok(_) => Ok(point),
        Err(_) => Err(KeyProblem::Numbers),
    }
}
