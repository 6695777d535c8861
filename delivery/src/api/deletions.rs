//! Users are deleted with all data: by themselves, and by admins (contract §9).

pub(super) mod docs;

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use protocol::UserId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ApiState,
    answer::Answer,
    body::{Decoded, Payload},
    caller::{Admin, User},
    error::ApiError,
    shape::{ID, Shape, must},
    trace::Trace,
    users::in_path,
};
use crate::deletion::Deleted;

/// The body by which users delete themselves.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirmation {
    confirm: String,
}

impl Payload for Confirmation {
    const SHAPE: Shape = Shape::Object(&[must(
        "confirm",
        ID,
        "The own user id: nobody sends that by mistake, or to the wrong account.",
    )]);
}

/// What became of a user.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeletedUser")]
struct Shown<'a> {
    /// Who.
    user_id: &'a UserId,
    /// `deleted`: nothing is left. `deleting`: access has ended, and the data is on its way out; asking again
    /// tells whether it is gone.
    #[schemars(regex(pattern = "^(deleted|deleting)$"))]
    state: &'static str,
    /// Whether anything was known of the user when this began.
    known: bool,
    /// Sessions that ended by this.
    sessions: u64,
    /// Messages that the inbox had; null while it is being emptied.
    messages: Option<u64>,
}

impl<'a> Shown<'a> {
    fn new(user_id: &'a UserId, deleted: Deleted) -> Self {
        let Deleted { known, sessions, messages } = deleted;
        let state = if messages.is_some() { "deleted" } else { "deleting" };
        Self { user_id, state, known, sessions, messages }
    }
}

/// `DELETE /admin/users/{id}`
pub(super) async fn of_user(
    State(state): State<ApiState>,
    admin: Admin,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let inbox = in_path(&admin, &uri, id)?;
    trace.of_tenant(&inbox.tenant);
    let deleted = state.0.deletions.delete(&inbox).await?;
    let shown = Shown::new(&inbox.user, deleted);
    trace.after(&shown);
    Ok(answer.success(&shown))
}

/// `DELETE /auth/profile`
pub(super) async fn own(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
    Decoded(Confirmation { confirm }): Decoded<Confirmation>,
) -> Result<Response, ApiError> {
    if !user.may_write() {
        return Err(ApiError::ReadOnly);
    }
    if confirm != user.user().as_str() {
        return Err(ApiError::field("confirm", "must be your own user id"));
    }
    state.0.accounts.check_fresh(&user).await?;
    tracing::info!(
        target: "security", event = "user_deleted", by = "user", user = user.user().as_str()
    );
    let deleted = state.0.deletions.delete(&user.inbox).await?;
    Ok(answer.success(&Shown::new(user.user(), deleted)))
}
