//! Admins who log in, with their authenticators.

use serde_json::{Value, json};
use totp_rs::{Builder, Secret};

use super::{Answer, Api, TestServer};

/// The password of every admin of tests.
pub(crate) const PASSWORD: &str = delivery::api::doc::ADMIN_PASSWORD;

const ADMINS: &str = "/api/v3/admin/admins";

/// An admin who is in.
pub(crate) struct SignedIn {
    pub(crate) id: String,
    /// The session's.
    pub(crate) token: String,
    /// Of the authenticator, in base 32.
    pub(crate) secret: String,
    pub(crate) recovery_codes: Vec<String>,
}

/// The code of an authenticator, so many steps of 30 s from now.
pub(crate) fn code(secret: &str, steps: u64) -> String {
    let secret = Secret::try_from_base32(secret).unwrap();
    let codes = Builder::new().with_secret(secret).with_account_name("a").build().unwrap();
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
    codes.generate(now + 30 * steps).to_string()
}

/// The first step of a login.
pub(crate) async fn begin(api: &Api, username: &str, password: &str) -> Answer {
    let body = json!({"username": username, "password": password});
    api.post("/api/v3/admin/auth/login", body).await
}

/// The second step.
pub(crate) async fn end(api: &Api, challenge: &Value, code: &str) -> Answer {
    let body = json!({"challenge": challenge["challenge"], "code": code});
    api.post("/api/v3/admin/auth/totp", body).await
}

impl TestServer {
    /// The admin port, as nobody.
    pub(crate) fn admin_port(&self) -> Api {
        self.as_admin().without_credentials()
    }

    /// Makes an admin of this name and role, and lets them in for the first time.
    pub(crate) async fn sign_in(
        &self,
        username: &str,
        role: &str,
        tenant: Option<&str>,
    ) -> SignedIn {
        let new = json!({"username": username, "role": role, "tenant_id": tenant,
            "password": PASSWORD});
        let made = self.as_admin().post(ADMINS, new).await.ok();
        self.enrol(&self.admin_port(), made["id"].as_str().unwrap(), username).await
    }

    /// Lets in an admin who has no second factor yet.
    pub(crate) async fn enrol(&self, api: &Api, id: &str, username: &str) -> SignedIn {
        let challenge = begin(api, username, PASSWORD).await.ok();
        let secret = challenge["enrolment"]["secret"].as_str().expect("an enrolment").to_owned();
        let done = end(api, &challenge, &code(&secret, 0)).await.ok();
        let codes = done["recovery_codes"].as_array().unwrap();
        SignedIn {
            id: id.to_owned(),
            token: done["token"].as_str().unwrap().to_owned(),
            secret,
            recovery_codes: codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect(),
        }
    }
}
