//! Secrets of endpoints, and signatures (Standard Webhooks 1.0, "Signature scheme").

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use protocol::Time;
use rand::Rng as _;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::Serialize;
use sha2::Sha256;

/// What a secret begins with, so that people and scanners know it.
pub const SECRET_PREFIX: &str = "whsec_";

/// Bytes of a key; the standard says 24 to 64.
const KEY_BYTES: usize = 32;

/// Most secrets of an endpoint that are good at a time: each adds a signature of 47 bytes to every
/// attempt. One more ends the oldest.
pub const SECRETS_MAX: usize = 4;

/// One secret of an endpoint. No Debug: it is one.
pub(super) struct Secret {
    key: SecretSlice<u8>,
    pub(super) times: SecretTimes,
}

/// What may be told of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "WebhookSecretTimes")]
pub struct SecretTimes {
    /// When it was made.
    pub created_at: Time,
    /// When it ends; null for the newest.
    pub expires_at: Option<Time>,
}

impl Secret {
    pub(super) fn generate(created_at: Time) -> Self {
        let mut key = vec![0; KEY_BYTES];
        rand::rng().fill_bytes(&mut key);
        Self::known(key, SecretTimes { created_at, expires_at: None })
    }

    pub(super) fn known(key: Vec<u8>, times: SecretTimes) -> Self {
        Self { key: key.into(), times }
    }

    /// For the file.
    pub(super) fn bytes(&self) -> &[u8] {
        self.key.expose_secret()
    }

    /// As it is shown, once.
    pub(super) fn shown(&self) -> SecretString {
        format!("{SECRET_PREFIX}{}", STANDARD.encode(self.bytes())).into()
    }

    fn is_good(&self, now: Time) -> bool {
        self.times.expires_at.is_none_or(|end| end > now)
    }

    fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.bytes()).expect("HMAC takes any key");
        for part in [id, ".", &timestamp.to_string(), ".", body] {
            mac.update(part.as_bytes());
        }
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// `webhook-signature`: one for each secret that is good, newest first.
pub(super) fn signatures(secrets: &[Secret], now: Time, id: &str, body: &str) -> String {
    let timestamp = seconds(now);
    let good = secrets.iter().filter(|secret| secret.is_good(now));
    good.map(|secret| secret.sign(id, timestamp, body)).collect::<Vec<_>>().join(" ")
}

/// `webhook-timestamp`: seconds since 1970.
pub(super) fn seconds(at: Time) -> i64 {
    at.millis().div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str, expires_at: Option<i64>) -> Secret {
        let key = STANDARD.decode(text.strip_prefix(SECRET_PREFIX).unwrap()).unwrap();
        let created_at = Time::from_millis(0);
        Secret::known(
            key,
            SecretTimes { created_at, expires_at: expires_at.map(Time::from_millis) },
        )
    }

    /// The vector that the reference libraries of the standard test themselves with, and two more.
    /// All three were worked out again with Python's `hmac` and with `openssl dgst -mac HMAC`.
    #[test]
    fn signatures_are_those_of_other_implementations() {
        for (key, id, seconds, body, expected) in [
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                "evt_00112233445566778899aabbccddeeff",
                1_736_937_000,
                r#"{"type":"message.read","timestamp":"2025-01-15T10:30:00Z","data":{"标题":"你好"}}"#,
                "v1,bFzAfIQliymgP+vNJTXlkQZ8pgnZjlX0/Y0fZlvGq90=",
            ),
            (
                "whsec_/////////////////////////////////////w==",
                "e",
                0,
                "",
                "v1,yImEMK4KGv7m4Nl5rit+RQokFXesJgbU5HZk7rY06jA=",
            ),
        ] {
            let now = Time::from_millis(seconds * 1_000 + 999);
            assert_eq!(signatures(&[secret(key, None)], now, id, body), expected);
        }
    }

    #[test]
    fn a_secret_that_ended_signs_nothing() {
        let (old, new) = (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_/////////////////////////////////////w==",
        );
        let secrets = [secret(new, None), secret(old, Some(5_000))];
        let at = |millis| signatures(&secrets, Time::from_millis(millis), "e", "{}");
        assert_eq!(at(4_999).split(' ').count(), 2);
        assert_eq!(at(5_000).split(' ').count(), 1);
        assert!(at(4_999).starts_with(&signatures(
            &secrets[..1],
            Time::from_millis(4_999),
            "e",
            "{}"
        )));
    }

    #[test]
    fn new_secrets_are_long_and_never_the_same() {
        let [a, b] = [0, 0].map(|at| Secret::generate(Time::from_millis(at)).shown());
        assert_ne!(a.expose_secret(), b.expose_secret());
        let key = STANDARD.decode(a.expose_secret().strip_prefix(SECRET_PREFIX).unwrap()).unwrap();
        assert_eq!(key.len(), KEY_BYTES);
    }
}
