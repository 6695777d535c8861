//! Private keys as they are kept.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    error::Unspecified,
    rand,
};
use base64::{Engine, engine::general_purpose::STANDARD};

/// What private keys are sealed with: nodes with the same `JWT_SECRET` have the same.
#[derive(Clone)]
pub struct SealingKey(pub [u8; 32]);

impl SealingKey {
    fn key(&self) -> LessSafeKey {
        let key = UnboundKey::new(&AES_256_GCM, &self.0).expect("it has the 32 bytes of AES-256");
        LessSafeKey::new(key)
    }

    /// Encrypts a private key, bound to its name. The nonce is random: there are a handful of keys.
    pub(super) fn seal(&self, kid: &str, private: &[u8]) -> Result<String, Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce)?;
        let mut sealed = private.to_vec();
        let bound = Aad::from(kid.as_bytes());
        self.key().seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            bound,
            &mut sealed,
        )?;
        Ok(STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    /// Decrypts it; none where it was sealed with another key, for another name, or was changed.
    pub(super) fn open(&self, kid: &str, sealed: &str) -> Option<Vec<u8>> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let bound = Aad::from(kid.as_bytes());
        Some(self.key().open_in_place(nonce, bound, &mut sealed).ok()?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_the_same_key_and_name_only() {
        let key = SealingKey([7; 32]);
        let sealed = key.seal("k1", b"private").unwrap();
        assert_eq!(key.open("k1", &sealed).as_deref(), Some(&b"private"[..]));
        assert!(!STANDARD.decode(&sealed).unwrap().windows(7).any(|bytes| bytes == b"private"));
        assert_ne!(sealed, key.seal("k1", b"private").unwrap(), "a nonce is used once");
        assert_eq!(key.open("k2", &sealed), None);
        assert_eq!(SealingKey([8; 32]).open("k1", &sealed), None);
        let mut bytes = STANDARD.decode(&sealed).unwrap();
        bytes[20] ^= 1;
        assert_eq!(key.open("k1", &STANDARD.encode(bytes)), None);
        for broken in ["", "AAAA", "no base64!"] {
            assert_eq!(key.open("k1", broken), None);
        }
    }
}
