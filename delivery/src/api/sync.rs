//! Changes after a position, for clients that poll.

pub(in crate::api) mod docs;

use axum::{
    extract::{OriginalUri, State},
    response::Response,
};
use protocol::{Message, Seq, ServerFrame, StatusUpdate};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ApiState,
    answer::Answer,
    caller::User,
    error::ApiError,
    query::Parameters,
    shape::{Field, POSITION, Shape, may},
};
use crate::store::{Change, Stored};

/// Most changes of one answer, and how many where nothing is said.
pub const SYNC_LIMIT_MAX: usize = 1_000;
const SYNC_LIMIT_DEFAULT: usize = 200;

/// About how many bytes of messages one answer carries; at least one message.
pub const SYNC_BYTES_MAX: usize = 1 << 20;

/// Changes of an inbox.
#[derive(Serialize, JsonSchema)]
struct Changes {
    /// As the socket's frames, in order of their seq, without holes.
    changes: Vec<ServerFrame>,
    /// The seq of the inbox's latest change.
    head: Seq,
    /// Whether to ask again, with the last change's seq.
    more: bool,
}

const QUERY: &[Field] = &[
    may("since", POSITION, "The last position that was seen; 0, the beginning, unless said."),
    may(
        "limit",
        Shape::Whole(1, SYNC_LIMIT_MAX as u64),
        "Most changes of the answer, 200 unless said. It ends earlier at about 1 MiB.",
    ),
];

/// `GET /sync?since=&limit=`
pub(super) async fn changes(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, QUERY)?;
    let since = Seq(parameters.parsed("since", "a number from 0").unwrap_or(0));
    let limit = parameters.parsed("limit", "a number from 1").unwrap_or(SYNC_LIMIT_DEFAULT);
    parameters.finish()?;
    if !(1..=SYNC_LIMIT_MAX).contains(&limit) {
        return Err(ApiError::field("limit", format!("must be 1 to {SYNC_LIMIT_MAX}")));
    }
    let page = state.0.store.changes(&user.inbox, since, limit, SYNC_BYTES_MAX).await?;
    // Ahead of the head: a position of another inbox, or of one that was restored from a backup.
    if page.min_seq > since || since > page.head {
        return Err(ApiError::Resync { min_seq: page.min_seq, head: page.head });
    }
    let last = page.changes.last().map_or(since, |change| change.seq);
    let changes = page.changes.into_iter().map(frame).collect::<Result<_, _>>()?;
    Ok(answer.success(&Changes { changes, head: page.head, more: last < page.head }))
}

/// A change as sockets would send it.
fn frame(stored: Stored) -> Result<ServerFrame, protocol::message::BodyError> {
    Ok(match stored.change {
        Change::Message { state, body } => {
            let data = Message { state, fields: body.fields()? };
            // Rings nowhere: whoever polls decides by themselves what is shown.
            ServerFrame::Message { seq: stored.seq, silent: false, data }
        }
        Change::Status(change) => ServerFrame::StatusUpdate {
            seq: stored.seq,
            data: StatusUpdate {
                message_id: change.message_id,
                status: change.status,
                device_id: change.device,
                at: change.at,
                action: change.action,
            },
        },
    })
}
