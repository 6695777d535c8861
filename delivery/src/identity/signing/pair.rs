//! A private key and its public half.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    error::Unspecified,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair, RsaPublicKeyComponents,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::super::jwks::{PublicJwk, SigningAlgorithm};

enum Private {
    Rs256(RsaKeyPair),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

/// A private key, ready to sign; taken apart once and not for each token.
pub(in crate::identity) struct Pair {
    private: Private,
    jwk: PublicJwk,
}

/// The bytes are no private key of this algorithm.
#[derive(Debug, thiserror::Error)]
#[error("it is no private key for {0}")]
pub(in crate::identity) struct NotAPair(SigningAlgorithm);

impl Pair {
    /// A new private key, as PKCS #8 (RFC 5208).
    pub(in crate::identity) fn make(algorithm: SigningAlgorithm) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        Ok(match algorithm {
            SigningAlgorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
                AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)?.as_ref().to_vec()
            }
            SigningAlgorithm::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)?
                    .as_ref()
                    .to_vec()
            }
            SigningAlgorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&random)?.as_ref().to_vec(),
        })
    }

    /// Takes apart what [`Pair::make`] made.
    pub(in crate::identity) fn read(
        algorithm: SigningAlgorithm,
        pkcs8: &[u8],
    ) -> Result<Self, NotAPair> {
        let wrong = |_| NotAPair(algorithm);
        let text = |bytes: &[u8]| Some(URL_SAFE_NO_PAD.encode(bytes));
        let (private, numbers) = match algorithm {
            SigningAlgorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(wrong)?;
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                let (n, e) = (text(&public.n), text(&public.e));
                (
                    Private::Rs256(pair),
                    PublicJwk { kty: "RSA".to_owned(), n, e, ..PublicJwk::default() },
                )
            }
            SigningAlgorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
                    .map_err(wrong)?;
                // SEC 1 §2.3.3: a byte that says "not compressed", then both halves.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                let (x, y) = (text(x), text(y));
                let crv = Some("P-256".to_owned());
                (
                    Private::Es256(pair),
                    PublicJwk { kty: "EC".to_owned(), crv, x, y, ..PublicJwk::default() },
                )
            }
            SigningAlgorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(wrong)?;
                let x = text(pair.public_key().as_ref());
                let crv = Some("Ed25519".to_owned());
                (
                    Private::EdDsa(pair),
                    PublicJwk { kty: "OKP".to_owned(), crv, x, ..PublicJwk::default() },
                )
            }
        };
        let kid = Some(thumbprint(&numbers));
        let (usage, alg) = (Some("sig".to_owned()), Some(algorithm.as_str().to_owned()));
        Ok(Self { private, jwk: PublicJwk { usage, alg, kid, ..numbers } })
    }

    /// Its public half, as it is published.
    pub(in crate::identity) const fn jwk(&self) -> &PublicJwk {
        &self.jwk
    }

    /// Its algorithm, as `alg` has it.
    pub(in crate::identity) const fn word(&self) -> &'static str {
        match self.private {
            Private::Rs256(_) => SigningAlgorithm::Rs256,
            Private::Es256(_) => SigningAlgorithm::Es256,
            Private::EdDsa(_) => SigningAlgorithm::EdDsa,
        }
        .as_str()
    }

    /// What it is called.
    pub(in crate::identity) fn kid(&self) -> &str {
        self.jwk.kid.as_deref().unwrap_or_default()
    }

    /// Signs a message, as JWS has it.
    pub(in crate::identity) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        match &self.private {
            Private::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
            Private::Es256(pair) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
            Private::EdDsa(pair) => Ok(pair.try_sign(message)?.as_ref().to_vec()),
        }
    }
}

/// A name that says which key it is (RFC 7638): nobody has to hand out names, and two keys cannot have
/// the same one.
fn thumbprint(jwk: &PublicJwk) -> String {
    let members = [
        ("crv", &jwk.crv),
        ("e", &jwk.e),
        ("kty", &Some(jwk.kty.clone())),
        ("n", &jwk.n),
        ("x", &jwk.x),
        ("y", &jwk.y),
    ];
    let members = members
        .iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| format!(r#""{name}":"{value}""#)));
    let text = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
    URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_is_that_of_the_standard() {
        // RFC 7638 §3.1.
        let jwk = PublicJwk {
            kty: "RSA".to_owned(),
            n: Some(
                "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
                    .to_owned(),
            ),
            e: Some("AQAB".to_owned()),
            ..PublicJwk::default()
        };
        assert_eq!(thumbprint(&jwk), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
