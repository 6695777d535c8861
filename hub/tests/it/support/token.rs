//! User tokens, signed as a login service would (seed 003 §6.5).

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// `JWT_SECRET` of every test server.
pub(crate) const SECRET: &str = "jwt-secret-of-the-integration-tests-0123456789abcdef";

/// A token that can be bent before it is signed.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) claims: Value,
}

impl Token {
    /// A good one, for an hour.
    pub(crate) fn of(user: &str) -> Self {
        let now = seconds();
        Self {
            claims: json!({
                "iss": "message-service", "aud": "client-app", "sub": user, "user_id": user,
                "iat": now, "exp": now + 3600, "jti": uuid::Uuid::now_v7().to_string(),
                "username": user, "scope": ["read", "write"],
            }),
        }
    }

    /// Sets a claim; `null` takes it out.
    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        let claims = self.claims.as_object_mut().expect("an object");
        match value.into() {
            Value::Null => claims.remove(name),
            value => claims.insert(name.to_owned(), value),
        };
        self
    }

    /// Names the device.
    pub(crate) fn device(self, device: &str) -> Self {
        self.claim("device_id", device)
    }

    /// Ends in (or before) so many seconds.
    pub(crate) fn expires_in(self, seconds_from_now: i64) -> Self {
        self.claim("exp", seconds() + seconds_from_now)
    }

    /// Signs it as the server expects.
    pub(crate) fn sign(&self) -> String {
        self.sign_with(&Header::new(Algorithm::HS256), SECRET)
    }

    /// Signs it in another way.
    pub(crate) fn sign_with(&self, header: &Header, secret: &str) -> String {
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(header, &self.claims, &key).unwrap()
    }

    /// Header and claims as given, with a signature that fits or is left out.
    pub(crate) fn with_header(&self, header: &Value, signed: bool) -> String {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
        let encode = |value: &Value| BASE64.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(&self.claims));
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let signature = if signed {
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap()
        } else {
            String::new()
        };
        format!("{message}.{signature}")
    }
}

fn seconds() -> i64 {
    jiff::Timestamp::now().as_second()
}
