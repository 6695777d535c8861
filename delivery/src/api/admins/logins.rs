//! Logins of admins.

pub(in crate::api) mod docs;

use std::sync::Arc;

use axum::{extract::State, response::Response};
use http::{HeaderMap, header};
use protocol::Time;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::PASSWORD;
use crate::{
    admin::{
        AdminAccount, AdminError, AdminSession, CHALLENGE_LIFE, Challenge, LoggedIn, Role,
        SESSION_IDLE_MAX, SignedIn, USERNAME_BYTES_MAX,
    },
    api::{
        ApiState,
        answer::Answer,
        body::{Decoded, Payload},
        caller::Admin,
        error::ApiError,
        shape::{Shape, must, text},
        toll::Toll,
        trace::Trace,
    },
    identity::AdminCaller,
};

/// Longest code, in bytes: a recovery code with its dashes, and some spaces.
const CODE_BYTES_MAX: usize = 64;

/// Longest challenge, in bytes. Longer ones are none of ours.
const CHALLENGE_BYTES_MAX: usize = 64;

/// The body of the first step.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct AdminLogin {
    username: String,
    password: SecretString,
}

impl Payload for AdminLogin {
    const SHAPE: Shape = Shape::Object(&[
        must("username", text(USERNAME_BYTES_MAX), "Who."),
        must("password", PASSWORD, "Their password."),
    ]);
}

/// The body of the second step.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct AdminCode {
    pub(super) challenge: SecretString,
    pub(super) code: SecretString,
}

impl Payload for AdminCode {
    const SHAPE: Shape = Shape::Object(&[
        must("challenge", text(CHALLENGE_BYTES_MAX), "As the first step answered it."),
        must("code", text(CODE_BYTES_MAX), "Six digits of the authenticator, or a recovery code."),
    ]);
}

/// What is missing is a code.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AdminChallenge")]
pub(super) struct ShownChallenge<'a> {
    /// For the second step.
    challenge: &'a str,
    /// How long it is good, in seconds.
    expires_in: u64,
    /// For who has no second factor yet: the first right code makes this one theirs. Else null.
    enrolment: Option<ShownEnrolment<'a>>,
}

/// What an authenticator app needs.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AdminEnrolment")]
pub(super) struct ShownEnrolment<'a> {
    /// To be typed, in base 32.
    secret: &'a str,
    /// To be scanned, as a QR code.
    otpauth_uri: &'a str,
}

/// An admin is in.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AdminLoggedIn")]
pub(super) struct ShownLogin<'a> {
    /// For `Authorization: Bearer`.
    token: &'a str,
    /// Who.
    admin: &'a AdminAccount,
    /// Which login it is.
    session: &'a AdminSession,
    /// After so many seconds without a request the session is over.
    idle_seconds: u64,
    /// Each is good once in place of a code. Shown here and never again, with the enrolment; else empty.
    recovery_codes: Vec<&'a str>,
}

/// Who asks.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AdminSelf")]
struct Me<'a> {
    /// `admin_token`, or the name of the user or admin.
    name: &'a str,
    /// What they may do.
    role: Role,
    /// The only tenant that they see; null for all.
    tenant_id: Option<&'a str>,
    /// The admin, where one has logged in.
    admin: Option<&'a AdminAccount>,
    /// Their login.
    session: Option<&'a AdminSession>,
    /// When it is over in any case.
    expires_at: Option<Time>,
}

/// A login has ended.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AdminLoggedOut")]
struct LoggedOut {
    /// Whether there was one: whoever shows `ADMIN_TOKEN` or a user's token has none.
    ended: bool,
}

/// A wrong guess costs its address as a wrong token does.
pub(super) fn told<T>(toll: &Toll, result: Result<T, AdminError>) -> Result<T, ApiError> {
    if let Err(
        AdminError::BadLogin
        | AdminError::BadPassword
        | AdminError::NoEnrolment
        | AdminError::BadFirstCode
        | AdminError::BadChallenge
        | AdminError::BadCode,
    ) = &result
    {
        toll.guessed();
    }
    Ok(result?)
}

pub(super) fn shown_challenge(challenge: &Challenge) -> ShownChallenge<'_> {
    let Challenge { challenge, enrolment } = challenge;
    ShownChallenge {
        challenge: challenge.expose_secret(),
        expires_in: CHALLENGE_LIFE.as_secs(),
        enrolment: enrolment.as_ref().map(|enrolment| ShownEnrolment {
            secret: enrolment.secret.expose_secret(),
            otpauth_uri: enrolment.otpauth_uri.expose_secret(),
        }),
    }
}

pub(super) fn shown_login(done: &LoggedIn) -> ShownLogin<'_> {
    let LoggedIn { token, account, session, recovery_codes } = done;
    ShownLogin {
        token: token.expose_secret(),
        admin: account,
        session,
        idle_seconds: SESSION_IDLE_MAX.as_secs(),
        recovery_codes: recovery_codes.iter().map(ExposeSecret::expose_secret).collect(),
    }
}

/// Says for the audit log who is in.
pub(super) fn leave(trace: &Trace, done: &LoggedIn) {
    let LoggedIn { account, session, .. } = done;
    let signed_in = SignedIn { account: account.clone(), session: session.clone() };
    trace.by(&AdminCaller::Account(Arc::new(signed_in)));
    trace.after(session);
}

/// `POST /admin/auth/login`
pub(in crate::api) async fn log_in(
    State(state): State<ApiState>,
    toll: Toll,
    answer: Answer,
    Decoded(AdminLogin { username, password }): Decoded<AdminLogin>,
) -> Result<Response, ApiError> {
    let begun = state.0.admins.log_in(&username, password, toll.address()).await;
    Ok(answer.success(&shown_challenge(&told(&toll, begun)?)))
}

/// `POST /admin/auth/totp`
pub(in crate::api) async fn second_step(
    State(state): State<ApiState>,
    toll: Toll,
    headers: HeaderMap,
    trace: Trace,
    answer: Answer,
    Decoded(AdminCode { challenge, code }): Decoded<AdminCode>,
) -> Result<Response, ApiError> {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let (challenge, code) = (challenge.expose_secret(), code.expose_secret());
    let admins = &state.0.admins;
    let done = admins.second_step(challenge, code, toll.address(), agent.unwrap_or_default()).await;
    let done = told(&toll, done)?;
    leave(&trace, &done);
    Ok(answer.success(&shown_login(&done)))
}

/// `POST /admin/auth/logout`
pub(in crate::api) async fn log_out(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    answer: Answer,
) -> Result<Response, ApiError> {
    let AdminCaller::Account(signed_in) = &admin else {
        return Ok(answer.success(&LoggedOut { ended: false }));
    };
    let (id, session) = (signed_in.account.id.clone(), signed_in.session.session_id.clone());
    let ended = state.0.admins.end_sessions(id, Some(session), None).await?;
    tracing::info!(target: "security", event = "admin_logged_out", by = admin.name());
    Ok(answer.success(&LoggedOut { ended: ended > 0 }))
}

/// `GET /admin/auth/me`
pub(in crate::api) async fn me(
    State(_): State<ApiState>,
    Admin(caller): Admin,
    answer: Answer,
) -> Result<Response, ApiError> {
    let signed_in = match &caller {
        AdminCaller::Account(signed_in) => Some(&**signed_in),
        AdminCaller::Token | AdminCaller::User(_) | AdminCaller::Within(..) => None,
    };
    Ok(answer.success(&Me {
        name: caller.name(),
        role: caller.role(),
        tenant_id: caller.tenant().map(protocol::TenantId::as_str),
        admin: signed_in.map(|signed_in| &signed_in.account),
        session: signed_in.map(|signed_in| &signed_in.session),
        expires_at: signed_in.map(|signed_in| signed_in.session.expires_at),
    }))
}
