//! For whom a file is encrypted, and who opens it.

use aws_lc_rs::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    agreement::{self, UnparsedPublicKey, X25519},
    hkdf::{HKDF_SHA256, Salt},
    rand,
};
use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox, SecretString};

use super::{AgeError, FIXED, bech32};

const RECIPIENT: &str = "age";
const IDENTITY: &str = "age-secret-key-";
const X25519_LABEL: &[u8] = b"age-encryption.org/v1/X25519";
const SCRYPT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";

/// Work factor of passphrases that we encrypt with, as a power of two: 32 MiB of memory and some 80 ms. The
/// tool's own, 18, would take 256 MiB for each backup that begins. Good passphrases make up for it; recipients need none.
const LOG_N: u8 = 15;

/// Largest work factor that is read: 1 GiB of memory.
pub(super) const LOG_N_READ_MAX: u8 = 20;

/// The key that a file's content is encrypted with.
pub(super) type FileKey = SecretBox<[u8; 16]>;

/// A text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It begins like a recipient.
    #[error("is no age recipient (age1…)")]
    Recipient,
    /// It begins like an identity.
    #[error("is no age identity (AGE-SECRET-KEY-1…)")]
    Identity,
    /// Too short for anything.
    #[error(
        "must be an age recipient, an age identity, or a passphrase of at least {PASSPHRASE_BYTES_MIN} bytes"
    )]
    Short,
}

/// Fewest bytes of a passphrase.
pub(crate) const PASSPHRASE_BYTES_MIN: usize = 12;

/// For whom a file is encrypted.
#[derive(Clone)]
pub(crate) enum Recipient {
    Key([u8; 32]),
    Passphrase(SecretString),
}

/// Who opens a file.
#[derive(Clone)]
pub(crate) enum Identity {
    Key(std::sync::Arc<SecretBox<[u8; 32]>>),
    Passphrase(SecretString),
}

/// One recipient's part of a header: its kind, its argument, and the wrapped key.
pub(super) struct Stanza {
    pub(super) kind: &'static str,
    pub(super) argument: Vec<u8>,
    pub(super) work: Option<u8>,
    pub(super) body: Vec<u8>,
}

impl Recipient {
    /// An age recipient, the one of an identity, or a passphrase.
    pub(crate) fn parse(text: &str) -> Result<Self, KeyError> {
        if text.to_ascii_lowercase().starts_with("age1") {
            return bech32::decode(RECIPIENT, text).map(Self::Key).ok_or(KeyError::Recipient);
        }
        match Identity::parse(text)? {
            Identity::Key(secret) => Ok(Self::Key(public(&secret))),
            Identity::Passphrase(phrase) => Ok(Self::Passphrase(phrase)),
        }
    }

    /// Wraps a file's key.
    pub(super) fn wrap(&self, key: &FileKey) -> Stanza {
        match self {
            Self::Key(theirs) => {
                let mut secret = SecretBox::new(Box::new([0; 32]));
                rand::fill(secret.expose_secret_mut()).expect(FIXED);
                let share = public(&secret);
                let wrapping = agreed(&secret, theirs, &share, theirs).expect(
                    "a recipient of low order was refused when it was read, or its checksum was",
                );
                let body = seal(&wrapping, key.expose_secret());
                Stanza { kind: "X25519", argument: share.to_vec(), work: None, body }
            }
            Self::Passphrase(phrase) => {
                let mut salt = [0; 16];
                rand::fill(&mut salt).expect(FIXED);
                let wrapping = stretched(phrase, &salt, LOG_N);
                let body = seal(&wrapping, key.expose_secret());
                Stanza { kind: "scrypt", argument: salt.to_vec(), work: Some(LOG_N), body }
            }
        }
    }
}

impl Identity {
    /// An age identity, or a passphrase.
    pub(crate) fn parse(text: &str) -> Result<Self, KeyError> {
        if text.to_ascii_lowercase().starts_with(IDENTITY) {
            let key = bech32::decode(IDENTITY, text).ok_or(KeyError::Identity)?;
            return Ok(Self::Key(std::sync::Arc::new(SecretBox::new(Box::new(key)))));
        }
        if text.len() < PASSPHRASE_BYTES_MIN {
            return Err(KeyError::Short);
        }
        Ok(Self::Passphrase(text.to_owned().into()))
    }

    /// Unwraps a file's key; none where the stanza is of another one's.
    pub(super) fn unwrap(
        &self,
        kind: &str,
        arguments: &[&str],
        body: &[u8],
    ) -> Result<Option<FileKey>, AgeError> {
        let wrapping = match (self, kind, arguments) {
            (Self::Key(secret), "X25519", [share]) => {
                let share: [u8; 32] =
                    super::header::base64(share)?.try_into().map_err(|_| AgeError::Header)?;
                agreed(secret, &share, &share, &public(secret)).ok_or(AgeError::Header)?
            }
            (Self::Passphrase(phrase), "scrypt", [salt, work]) => {
                let salt: [u8; 16] =
                    super::header::base64(salt)?.try_into().map_err(|_| AgeError::Header)?;
                let work: u8 = work.parse().map_err(|_| AgeError::Header)?;
                if !(1..=LOG_N_READ_MAX).contains(&work) {
                    return Err(AgeError::Work(work));
                }
                stretched(phrase, &salt, work)
            }
            _ => return Ok(None),
        };
        if body.len() != 32 {
            return Err(AgeError::Header);
        }
        let mut body = body.to_vec();
        let key = UnboundKey::new(&CHACHA20_POLY1305, wrapping.expose_secret()).expect(FIXED);
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let opened = LessSafeKey::new(key).open_in_place(nonce, Aad::empty(), &mut body);
        let opened: Option<[u8; 16]> = opened.ok().and_then(|key| (*key).try_into().ok());
        Ok(opened.map(|key| SecretBox::new(Box::new(key))))
    }

    /// How a file must have been encrypted for this to open it.
    pub(super) const fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Key(_) => ("X25519", "with a passphrase, and the key at hand is an identity"),
            Self::Passphrase(_) => {
                ("scrypt", "for an identity, and the key at hand is a passphrase")
            }
        }
    }
}

#[cfg(test)]
pub(super) fn recipient_text(key: &[u8; 32]) -> String {
    bech32::encode(RECIPIENT, key)
}

fn private(secret: &SecretBox<[u8; 32]>) -> agreement::PrivateKey {
    agreement::PrivateKey::from_private_key(&X25519, secret.expose_secret()).expect(FIXED)
}

fn public(secret: &SecretBox<[u8; 32]>) -> [u8; 32] {
    let public = private(secret).compute_public_key().expect(FIXED);
    public.as_ref().try_into().expect(FIXED)
}

/// The wrapping key of two sides; none for a point that gives every secret the same.
fn agreed(
    secret: &SecretBox<[u8; 32]>,
    theirs: &[u8; 32],
    share: &[u8; 32],
    recipient: &[u8; 32],
) -> Option<SecretBox<[u8; 32]>> {
    let peer = UnparsedPublicKey::new(&X25519, theirs);
    let salt: Vec<u8> = share.iter().chain(recipient).copied().collect();
    agreement::agree(&private(secret), peer, (), |shared| Ok(derive(shared, &salt, X25519_LABEL)))
        .ok()
}

/// HKDF-SHA-256.
pub(super) fn derive(secret: &[u8], salt: &[u8], info: &[u8]) -> SecretBox<[u8; 32]> {
    let mut out = SecretBox::new(Box::new([0; 32]));
    Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(&[info], HKDF_SHA256)
        .and_then(|okm| okm.fill(out.expose_secret_mut()))
        .expect(FIXED);
    out
}

fn stretched(phrase: &SecretString, salt: &[u8; 16], log_n: u8) -> SecretBox<[u8; 32]> {
    let salt: Vec<u8> = SCRYPT_LABEL.iter().chain(salt).copied().collect();
    let mut out = SecretBox::new(Box::new([0; 32]));
    let parameters = scrypt::Params::new(log_n, 8, 1).expect("bounded by who calls");
    scrypt::scrypt(phrase.expose_secret().as_bytes(), &salt, &parameters, out.expose_secret_mut())
        .expect(FIXED);
    out
}

fn seal(wrapping: &SecretBox<[u8; 32]>, key: &[u8; 16]) -> Vec<u8> {
    let mut body = key.to_vec();
    let wrapping = UnboundKey::new(&CHACHA20_POLY1305, wrapping.expose_secret()).expect(FIXED);
    let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
    LessSafeKey::new(wrapping)
        .seal_in_place_append_tag(nonce, Aad::empty(), &mut body)
        .expect(FIXED);
    body
}
