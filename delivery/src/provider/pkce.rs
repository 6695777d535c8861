//! Secrets of a login, and PKCE with S256 (RFC 7636).
//!
//! A browser that begins a login gets one secret, in a cookie. The verifier and the nonce of each of its
//! logins are made from it: nothing that is kept here could finish a login, and a login that comes
//! back in another browser has neither.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::account::random_secret;

/// Characters of 32 bytes in base64 without padding.
pub const SECRET_CHARS: usize = 43;

/// Characters of a verifier (RFC 7636 §4.1).
pub const VERIFIER_CHARS_MIN: usize = 43;
/// Characters of a verifier (RFC 7636 §4.1).
pub const VERIFIER_CHARS_MAX: usize = 128;

/// A new secret in [`SECRET_CHARS`] characters that may stand in a URL.
pub(crate) fn new_secret() -> SecretString {
    random_secret("").into()
}

/// Whether a text could have come from [`new_secret`].
pub(crate) fn is_secret(text: &str) -> bool {
    text.len() == SECRET_CHARS && text.bytes().all(is_of_base64)
}

const fn is_of_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// The hash of a secret, as it is kept and compared.
pub(crate) fn hash(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(secret))
}

/// What a browser's secret makes of a login's state, for one use.
fn derived(browser: &SecretString, used_for: &str, state: &str) -> SecretString {
    let mut mac = Hmac::<Sha256>::new_from_slice(browser.expose_secret().as_bytes())
        .expect("HMAC takes keys of any length");
    for part in [used_for, ":", state] {
        mac.update(part.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()).into()
}

/// The `code_verifier` of a login.
pub(crate) fn verifier(browser: &SecretString, state: &str) -> SecretString {
    derived(browser, "verifier", state)
}

/// The `nonce` of a login.
pub(crate) fn nonce(browser: &SecretString, state: &str) -> String {
    derived(browser, "nonce", state).expose_secret().to_owned()
}

/// The `code_challenge` of a verifier.
pub(crate) fn challenge(verifier: &str) -> String {
    hash(verifier)
}

/// Whether a text can be a `code_challenge` by S256.
pub(crate) fn is_challenge(text: &str) -> bool {
    is_secret(text)
}

/// Whether a verifier is the one of a challenge.
pub(crate) fn fits(verifier: &str, expected: &str) -> bool {
    challenge(verifier).as_bytes().ct_eq(expected.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_that_of_the_rfc() {
        // RFC 7636, appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let expected = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert_eq!(challenge(verifier), expected);
        assert!(fits(verifier, expected) && is_challenge(expected));
        // The plain method: the challenge is the verifier.
        assert!(!fits(expected, expected) && !fits("", expected) && !fits(verifier, ""));
    }

    #[test]
    fn secrets_differ_and_are_bound() {
        let (a, b) = (new_secret(), new_secret());
        assert!(is_secret(a.expose_secret()) && a.expose_secret() != b.expose_secret());
        let text = |secret: SecretString| secret.expose_secret().to_owned();
        assert_ne!(text(verifier(&a, "s")), text(verifier(&b, "s")));
        assert_ne!(text(verifier(&a, "s")), text(verifier(&a, "t")));
        assert_ne!(text(verifier(&a, "s")), nonce(&a, "s"));
        for bad in ["", "short", &"a".repeat(42), &"a".repeat(44), &"é".repeat(22)] {
            assert!(!is_secret(bad), "{bad}");
        }
    }
}
