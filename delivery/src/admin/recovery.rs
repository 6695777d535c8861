//! Codes for those who have lost their second factor.

use rand::RngExt;
use sha2::{Digest, Sha256};

/// How many there are; each is good once.
pub const RECOVERY_CODES: usize = 10;

/// No letters that look like digits.
const ALPHABET: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";

/// Groups of a code, of four characters each: 79 bits, which need no slow hash.
const GROUPS: usize = 4;

/// New codes, as they are shown.
pub(super) fn make() -> Vec<String> {
    let mut random = rand::rng();
    let mut group = || -> String {
        (0..4).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
    };
    (0..RECOVERY_CODES)
        .map(|_| (0..GROUPS).map(|_| group()).collect::<Vec<_>>().join("-"))
        .collect()
}

/// What is kept of codes: their hashes, as JSON.
pub(super) fn kept(codes: &[String]) -> String {
    let hashes: Vec<String> = codes.iter().map(|code| hash(code)).collect();
    serde_json::to_string(&hashes).expect("texts")
}

/// What is kept of a code, however it was typed.
pub(super) fn hash(code: &str) -> String {
    let plain = code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase());
    let digest = Sha256::digest(plain.collect::<String>().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_however_they_are_typed() {
        let codes = make();
        assert_eq!(codes.len(), RECOVERY_CODES);
        let code = &codes[0];
        assert_eq!(code.len(), 19);
        assert_eq!(hash(code), hash(&code.replace('-', "").to_uppercase()));
        assert_ne!(hash(code), hash(&codes[1]));
    }
}
