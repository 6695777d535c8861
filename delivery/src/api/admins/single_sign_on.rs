//! Logins of admins at the operator's issuer.
//!
//! As users' logins: browsers go there and back by redirects and see a page where something is wrong, programs get
//! JSON. In the end a browser is at the console with a code behind the `#`, which no server on the way sees, and
//! which only this browser can exchange for a session.

pub(in crate::api) mod docs;

use axum::{
    extract::{OriginalUri, State},
    response::Response,
};
use http::HeaderMap;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::logins::{leave, shown_challenge, shown_login};
use crate::{
    admin::{Entered, SingleSignOn, SsoError},
    api::{
        ApiState,
        answer::{Answer, negotiate},
        body::{Decoded, Payload},
        error::ApiError,
        login::{
            APP_CODE, brought, browser, browsers, cookie, private, redirect, refused, show_begun,
            user_agent, wants_page,
        },
        query::Parameters,
        shape::{Shape, must},
        toll::Toll,
        trace::Trace,
    },
    provider::{ADMIN, CODE_LIFE, LoginError},
};

/// The callback on the admin port; what stands before it in `ADMIN_OIDC_REDIRECT_URI` is where the console is.
pub const CALLBACK_PATH: &str = "/api/v3/admin/login/oidc/callback";

/// Where admins can log in.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AdminLoginProviders")]
struct ShownProviders<'a> {
    /// None but the issuer of `ADMIN_OIDC_ISSUER`, where it is set.
    providers: Vec<ShownProvider<'a>>,
}

/// Where admins can log in.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AdminLoginProvider")]
struct ShownProvider<'a> {
    /// Its name in paths.
    name: &'static str,
    /// Its name for people.
    title: &'a str,
    /// Where a browser begins.
    login_url: &'static str,
}

/// A browser that is let in.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AdminLoginCode")]
struct ShownCode<'a> {
    /// For `POST /api/v3/admin/login/exchange`, once, with the cookie of the login.
    code: &'a str,
    /// How long it is good, in seconds.
    expires_in: u64,
}

/// The body of an exchange.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct AdminExchange {
    code: SecretString,
}

impl Payload for AdminExchange {
    const SHAPE: Shape =
        Shape::Object(&[must("code", APP_CODE, "What the callback gave. It is used up by this.")]);
}

impl From<SsoError> for ApiError {
    fn from(error: SsoError) -> Self {
        match error {
            SsoError::Login(error) => error.into(),
            SsoError::Admin(error) => error.into(),
        }
    }
}

/// What is guessed costs its address as a bad token does.
fn guessed<T>(toll: &Toll, result: Result<T, SsoError>) -> Result<T, ApiError> {
    if let Err(SsoError::Login(LoginError::Code | LoginError::State)) = &result {
        toll.guessed();
    }
    Ok(result?)
}

fn there(state: &ApiState) -> Result<&SingleSignOn, ApiError> {
    Ok(state.0.single_sign_on.as_ref().ok_or(LoginError::NoProvider)?)
}

/// `GET /admin/login/providers`
pub(in crate::api) async fn providers(State(state): State<ApiState>, answer: Answer) -> Response {
    let shown = state.0.single_sign_on.iter().map(|there| ShownProvider {
        name: "oidc",
        title: there.title(),
        login_url: "/api/v3/admin/login/oidc",
    });
    answer.success(&ShownProviders { providers: shown.collect() })
}

/// `GET /admin/login/oidc`
pub(in crate::api) async fn login(
    State(state): State<ApiState>,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
) -> Response {
    let as_page = wants_page(&headers);
    let begun = async {
        let there = there(&state)?;
        Parameters::new(&uri, &[])?.finish()?;
        Ok((there.begin(browser(&headers)).await?, there.redirect_uri()))
    };
    match begun.await {
        Ok((begun, origin)) if as_page => {
            cookie::given(redirect(begun.auth_url.as_str()), &begun, origin)
        }
        Ok((begun, origin)) => show_begun(&headers, &begun, origin),
        Err(error) => refused(error, as_page),
    }
}

/// `GET /admin/login/oidc/callback`
pub(in crate::api) async fn callback(
    State(state): State<ApiState>,
    headers: HeaderMap,
    toll: Toll,
    OriginalUri(uri): OriginalUri,
) -> Response {
    let as_page = wants_page(&headers);
    let come_back = async {
        let there = there(&state)?;
        let brought = guessed(&toll, brought(there.way(), ADMIN, &uri).map_err(SsoError::from))?;
        let came = brought.came(ADMIN, &headers);
        let code = guessed(&toll, there.come_back(&came, toll.address()).await)?;
        Ok((code, there.redirect_uri()))
    };
    match come_back.await {
        Ok((code, redirect_uri)) if as_page => {
            let base = redirect_uri.strip_suffix(CALLBACK_PATH).unwrap_or_default();
            redirect(&format!("{base}/#login_code={}", code.expose_secret()))
        }
        Ok((code, _)) => {
            let codec = negotiate(&headers).unwrap_or(protocol::Codec::Json);
            private(Answer(codec).success(&ShownCode {
                code: code.expose_secret(),
                expires_in: CODE_LIFE.as_secs(),
            }))
        }
        Err(error) => refused(error, as_page),
    }
}

/// `POST /admin/login/exchange`
pub(in crate::api) async fn exchange(
    State(state): State<ApiState>,
    headers: HeaderMap,
    toll: Toll,
    trace: Trace,
    answer: Answer,
    Decoded(AdminExchange { code }): Decoded<AdminExchange>,
) -> Result<Response, ApiError> {
    let (browsers, agent) = (browsers(&headers), user_agent(&headers));
    let there = there(&state)?;
    let done = there.exchange(code.expose_secret(), &browsers, toll.address(), &agent).await;
    Ok(private(match guessed(&toll, done)? {
        Entered::In(done) => {
            leave(&trace, &done);
            answer.success(&shown_login(&done))
        }
        Entered::Challenge(challenge) => answer.success(&shown_challenge(&challenge)),
    }))
}
