//! Mints the tokens a user of the server would have: HS256, the claims of contract §4.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How long a token lives, in seconds: longer than any run, so that no socket is closed by it.
const TOKEN_LIFE_S: u64 = 12 * 3600;

/// A secret on the command line. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Makes tokens.
pub(crate) struct Minter {
    mac: Hmac<Sha256>,
    run: u32,
}

impl Minter {
    /// `run` makes sessions and devices new with each run: a device of an earlier run that has
    /// acked would resume at its server-held cursor, and the checker expects a start at the head.
    pub(crate) fn new(secret: &Secret, run: u32) -> Self {
        let mac = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes())
            .expect("HMAC takes keys of any length");
        Self { mac, run }
    }

    /// A token of a user's device.
    pub(crate) fn user(&self, user: &str, device: u32) -> String {
        self.mint(user, device, "[]")
    }

    /// A token that may send to anybody, for runs without a service key.
    pub(crate) fn admin(&self) -> String {
        self.mint("loadtest-admin", 0, r#"["system_admin"]"#)
    }

    fn mint(&self, user: &str, device: u32, roles: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        let run = self.run;
        let claims = format!(
            r#"{{"iss":"message-service","aud":"client-app","sub":"{user}","user_id":"{user}","username":"{user}","device_id":"lt-{run:08x}-{device}","session_id":"lt-{run:08x}-{user}-{device}","jti":"lt-{run:08x}-{user}-{device}","iat":{now},"exp":{},"roles":{roles}}}"#,
            now + TOKEN_LIFE_S
        );
        let mut token = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let mut mac = self.mac.clone();
        mac.update(token.as_bytes());
        let signature = mac.finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_signed_as_rfc_7515_says() {
        // RFC 4231 test case 2 pins the MAC; the token is that MAC over its first two parts.
        let mut mac = Hmac::<Sha256>::new_from_slice(b"Jefe").unwrap();
        mac.update(b"what do ya want for nothing?");
        assert_eq!(mac.finalize().into_bytes()[..4], [0x5b, 0xdc, 0xc1, 0x46]);

        let token = Minter::new(&"s3cret".into(), 7).user("lt-000001", 2);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(b"s3cret").unwrap();
        mac.update(signed.as_bytes());
        mac.verify_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["user_id"], "lt-000001");
        assert_eq!(claims["device_id"], "lt-00000007-2");
        assert_eq!(claims["aud"], "client-app");
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", Secret::from("key")), "***");
    }
}
