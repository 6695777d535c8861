//! Logins of users: their tokens, sessions and profile (seed 003 §6.4).

pub(super) mod docs;
pub(super) mod profile;
pub(super) mod sessions;

use axum::{extract::State, response::Response};
use protocol::DeviceId;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    ApiState,
    answer::Answer,
    body::{Decoded, Payload},
    caller::User,
    error::ApiError,
    shape::{Field, ID, Shape, may, must, some_text},
    toll::Toll,
};
use crate::{
    account::{AccountError, LogIn, TokenPair},
    identity::note,
};

/// Longest refresh token that is looked at, in bytes; ours have about 90.
const REFRESH_TOKEN_BYTES_MAX: usize = 256;

/// The body of a refresh.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct RefreshBody {
    refresh_token: SecretString,
    #[serde(default)]
    device_id: Option<DeviceId>,
}

impl Payload for RefreshBody {
    const SHAPE: Shape = Shape::Object(&[
        must(
            "refresh_token",
            some_text(REFRESH_TOKEN_BYTES_MAX),
            "The one of the latest pair. It is used up by this.",
        ),
        may("device_id", ID, "The device that asks; another one's token is refused."),
    ]);
}

/// What has ended.
#[derive(Serialize, JsonSchema)]
struct LoggedOut<'a> {
    /// The login; null where the token named none, and only the token ended.
    session_id: Option<&'a str>,
}

/// A one-time ticket for a socket.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Ticket")]
struct ShownTicket<'a> {
    /// For `/ws?ticket=`.
    ticket: &'a str,
    /// How long it can be used, in seconds.
    expires_in: u64,
}

/// Headers that tell who asks, of requests that make a session.
pub(super) const USER_AGENT: Field =
    may("User-Agent", super::shape::text(usize::MAX), "Is shown in the list of sessions.");

/// Logs somebody in, and lets the directory know them.
pub(super) async fn log_in(state: &ApiState, log_in: LogIn) -> Result<TokenPair, ApiError> {
    let pair = state.0.accounts.log_in(log_in).await?;
    note(&*state.0.directory, &pair.caller).await;
    Ok(pair)
}

/// `POST /auth/refresh`
pub(in crate::api) async fn refresh(
    State(state): State<ApiState>,
    toll: Toll,
    answer: Answer,
    Decoded(RefreshBody { refresh_token, device_id }): Decoded<RefreshBody>,
) -> Result<Response, ApiError> {
    let accounts = &state.0.accounts;
    let pair =
        accounts.refresh(refresh_token.expose_secret(), device_id, Some(toll.address())).await;
    if let Err(AccountError::BadRefresh) = &pair {
        toll.guessed();
    }
    Ok(answer.success(&pair?.shown()))
}

/// `POST /auth/logout`
pub(in crate::api) async fn logout(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
) -> Result<Response, ApiError> {
    state.0.accounts.log_out(&user).await?;
    let session = user.session.as_deref();
    tracing::info!(target: "security", event = "logged_out", user = user.user().as_str(), session);
    Ok(answer.success(&LoggedOut { session_id: session }))
}

/// `POST /auth/ws-ticket`
pub(in crate::api) async fn ticket(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
) -> Result<Response, ApiError> {
    let ticket = state.0.accounts.ticket(&user).await?;
    let expires_in = ticket.life.as_secs();
    Ok(answer.success(&ShownTicket { ticket: ticket.ticket.expose_secret(), expires_in }))
}
