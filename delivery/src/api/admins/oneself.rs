//! What admins change of their own login.

pub(in crate::api) mod docs;

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, State},
    response::Response,
};
use http::request::Parts;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    Ended, PASSWORD,
    logins::{AdminCode, shown_challenge, told},
};
use crate::{
    admin::{AdminError, PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN, SignedIn},
    api::{
        ApiState,
        answer::Answer,
        body::{Decoded, Payload},
        caller::Admin,
        doc::{Part, Told},
        error::ApiError,
        shape::{Form, Shape, formed, must},
        toll::Toll,
    },
    identity::AdminCaller,
};

/// An admin who has logged in. Whoever shows `ADMIN_TOKEN` or a user's token has nothing here.
pub(in crate::api) struct Oneself(Arc<SignedIn>);

impl FromRequestParts<ApiState> for Oneself {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        match Admin::from_request_parts(parts, state).await?.0 {
            AdminCaller::Account(signed_in) => Ok(Self(signed_in)),
            AdminCaller::Token | AdminCaller::User(_) | AdminCaller::Within(..) => {
                Err(AdminError::NoAccount.into())
            }
        }
    }
}

impl Part for Oneself {
    fn tell(told: &mut Told) {
        Admin::tell(told);
        told.users = Some(false);
    }
}

/// The body of another password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NewPassword {
    old_password: SecretString,
    new_password: SecretString,
}

impl Payload for NewPassword {
    const SHAPE: Shape = Shape::Object(&[
        must("old_password", PASSWORD, "The one until now."),
        must(
            "new_password",
            formed(Form::Any, PASSWORD_BYTES_MIN, PASSWORD_BYTES_MAX),
            "The one from now on.",
        ),
    ]);
}

/// The body of what needs the password again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct OwnPassword {
    password: SecretString,
}

impl Payload for OwnPassword {
    const SHAPE: Shape = Shape::Object(&[must("password", PASSWORD, "The own password, again.")]);
}

/// Codes in place of the second factor.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RecoveryCodes")]
struct ShownCodes<'a> {
    /// Each is good once in place of a code. Shown here and never again; those before are good no more.
    recovery_codes: Vec<&'a str>,
    /// How many other sessions have ended.
    ended: u64,
}

fn shown_codes(codes: &[SecretString], ended: u64) -> ShownCodes<'_> {
    ShownCodes { recovery_codes: codes.iter().map(ExposeSecret::expose_secret).collect(), ended }
}

/// `PUT /admin/me/password`
pub(in crate::api) async fn change_password(
    State(state): State<ApiState>,
    Oneself(who): Oneself,
    toll: Toll,
    answer: Answer,
    Decoded(NewPassword { old_password, new_password }): Decoded<NewPassword>,
) -> Result<Response, ApiError> {
    let admins = &state.0.admins;
    let done = admins.change_password(&who, old_password, new_password, toll.address()).await;
    Ok(answer.success(&Ended { ended: told(&toll, done)? }))
}

/// `POST /admin/me/totp`
pub(in crate::api) async fn enrol(
    State(state): State<ApiState>,
    Oneself(who): Oneself,
    toll: Toll,
    answer: Answer,
    Decoded(OwnPassword { password }): Decoded<OwnPassword>,
) -> Result<Response, ApiError> {
    let begun = state.0.admins.enrol(&who, password, toll.address()).await;
    Ok(answer.success(&shown_challenge(&told(&toll, begun)?)))
}

/// `POST /admin/me/totp/confirm`
pub(in crate::api) async fn confirm(
    State(state): State<ApiState>,
    Oneself(who): Oneself,
    toll: Toll,
    answer: Answer,
    Decoded(AdminCode { challenge, code }): Decoded<AdminCode>,
) -> Result<Response, ApiError> {
    let (challenge, code) = (challenge.expose_secret(), code.expose_secret());
    let done = state.0.admins.confirm(&who, challenge, code, toll.address()).await;
    let (codes, ended) = told(&toll, done)?;
    Ok(answer.success(&shown_codes(&codes, ended)))
}

/// `POST /admin/me/totp/recovery-codes`
pub(in crate::api) async fn recovery_codes(
    State(state): State<ApiState>,
    Oneself(who): Oneself,
    toll: Toll,
    answer: Answer,
    Decoded(OwnPassword { password }): Decoded<OwnPassword>,
) -> Result<Response, ApiError> {
    let codes = state.0.admins.new_recovery_codes(&who, password, toll.address()).await;
    Ok(answer.success(&shown_codes(&told(&toll, codes)?, 0)))
}

/// `POST /admin/me/totp/remove`
pub(in crate::api) async fn remove(
    State(state): State<ApiState>,
    Oneself(who): Oneself,
    toll: Toll,
    answer: Answer,
    Decoded(OwnPassword { password }): Decoded<OwnPassword>,
) -> Result<Response, ApiError> {
    let ended = state.0.admins.forget_second_factor(&who, password, toll.address()).await;
    Ok(answer.success(&Ended { ended: told(&toll, ended)? }))
}
