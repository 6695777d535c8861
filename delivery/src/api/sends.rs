//! Sending.

use axum::{
    extract::{FromRequest, Request, State},
    response::Response,
};
use protocol::{ErrorType, FieldProblem, MessageId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    ApiState,
    answer::Answer,
    body::{BATCH_BODY_BYTES_MAX, Payload, Raw, Repeatable},
    caller::Submitter,
    error::{ApiError, Failure},
    idempotency::{self, Keep},
    metrics::{ApiMetrics, SendKind},
    shape::{self, Shape, may, must},
    toll::Toll,
};
use crate::{
    identity::Caller,
    object::Object,
    send::{Receipt, SendError, SendRequest, limits::BATCH_MAX},
};

const SENDER: Shape = Shape::Object(&[
    must("id", Shape::Text),
    must("type", Shape::Text),
    may("name", Shape::Text),
    may("avatar", Shape::Text),
    may("service_id", Shape::Text),
]);

pub(super) const ATTACHMENT: Shape = Shape::Object(&[
    must("type", Shape::Text),
    may("name", Shape::Text),
    must("url", Shape::Text),
    may("size", Shape::Whole),
    may("mime_type", Shape::Text),
    may("thumbnail", Shape::Text),
]);

pub(super) const ACTION: Shape = Shape::Object(&[
    must("type", Shape::Text),
    must("text", Shape::Text),
    may("url", Shape::Text),
    may("action", Shape::Text),
    may("style", Shape::Text),
]);

const MESSAGE: Shape = Shape::Object(&[
    may("channel_id", Shape::Text),
    may("title", Shape::Text),
    may("content", Shape::Text),
    may("message_type", Shape::Text),
    may("recipients", Shape::List(&Shape::Text)),
    may("recipient_type", Shape::Text),
    may("sender", SENDER),
    may("on_behalf_of", Shape::Text),
    may("priority", Shape::Whole),
    may("scheduled_at", Shape::Time),
    may("expire_at", Shape::Time),
    may("collapse_key", Shape::Text),
    may("metadata", Shape::Map),
    may("attachments", Shape::List(&ATTACHMENT)),
    may("actions", Shape::List(&ACTION)),
    may("template_id", Shape::Text),
    may("variables", Shape::Map),
    may("locale", Shape::Text),
]);

impl Payload for SendRequest {
    const SHAPE: Shape = MESSAGE;
}

/// `POST /messages/send`
pub(super) async fn send(
    State(state): State<ApiState>,
    Submitter(caller): Submitter,
    answer: Answer,
    body: Result<Repeatable<SendRequest>, ApiError>,
) -> Result<Response, ApiError> {
    one(state, caller, answer, body, SendKind::Send).await
}

/// `POST /messages/send-template`
pub(super) async fn send_template(
    State(state): State<ApiState>,
    Submitter(caller): Submitter,
    answer: Answer,
    body: Result<Repeatable<SendRequest>, ApiError>,
) -> Result<Response, ApiError> {
    let body = body.and_then(|body| match body.body.template_id.as_deref() {
        None | Some("") => Err(ApiError::field("template_id", "is missing")),
        Some(_) => Ok(body),
    });
    one(state, caller, answer, body, SendKind::Template).await
}

async fn one(
    state: ApiState,
    caller: Caller,
    answer: Answer,
    body: Result<Repeatable<SendRequest>, ApiError>,
    kind: SendKind,
) -> Result<Response, ApiError> {
    let metrics = &state.0.metrics;
    let reject = |error: &ApiError| metrics.rejected(error.failure().kind);
    let Repeatable { body, keyed } = body.inspect_err(reject)?;
    let (sending, sender) = (state.clone(), caller.clone());
    let run = async move |keep: Keep| {
        let prepared = sending.0.sender.prepare(&sender, body).await?;
        let stored = keep.answer(&prepared.outcome);
        let receipt = sending.0.sender.store(prepared, stored).await?;
        sending.0.metrics.accepted(kind, sender.kind(), 1);
        Ok(answer.success(&receipt))
    };
    idempotency::once(&state, &caller, keyed, answer, run).await.inspect_err(reject)
}

/// A batch: read straight into its structs if all of it can be; else message by message, so that one
/// that cannot be read does not take the others with it.
pub(super) struct Batch(Repeatable<Messages>);

type Messages = Vec<Result<SendRequest, Vec<FieldProblem>>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    messages: Vec<Object<SendRequest>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pieces {
    messages: Vec<Value>,
}

const BATCH: Shape = Shape::Object(&[must("messages", Shape::List(&Shape::Any))]);

impl FromRequest<ApiState> for Batch {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        Repeatable::read(request, state, BATCH_BODY_BYTES_MAX, messages).await.map(Self)
    }
}

fn messages(raw: &Raw) -> Result<Messages, ApiError> {
    let messages: Vec<_> = match raw.decode::<Whole>(&BATCH) {
        Ok(whole) => whole.messages.into_iter().map(|message| Ok(message.0)).collect(),
        Err(_) => {
            let pieces: Pieces = raw.decode(&BATCH)?;
            pieces.messages.into_iter().map(message).collect()
        }
    };
    if (1..=BATCH_MAX).contains(&messages.len()) {
        return Ok(messages);
    }
    let problem = format!("must have 1 to {BATCH_MAX} entries, has {}", messages.len());
    Err(ApiError::field("messages", problem))
}

fn message(tree: Value) -> Result<SendRequest, Vec<FieldProblem>> {
    let found = shape::problems(&tree, &MESSAGE);
    if !found.is_empty() {
        return Err(found);
    }
    serde_json::from_value(tree)
        .map_err(|error| vec![FieldProblem { path: "body".to_owned(), problem: error.to_string() }])
}

#[derive(Serialize)]
struct Results {
    results: Vec<Item>,
    accepted: usize,
    rejected: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Item {
    Accepted {
        code: u16,
        #[serde(flatten)]
        receipt: Receipt,
    },
    Refused {
        code: u16,
        message: String,
        message_id: Option<MessageId>,
        error: ItemError,
    },
}

#[derive(Serialize)]
struct ItemError {
    #[serde(rename = "type")]
    kind: ErrorType,
    fields: Vec<FieldProblem>,
}

impl From<Failure> for Item {
    fn from(failure: Failure) -> Self {
        Self::Refused {
            code: failure.kind.status(),
            message: failure.message.into_owned(),
            message_id: None,
            error: ItemError { kind: failure.kind, fields: failure.fields },
        }
    }
}

impl Results {
    fn of(outcome: Vec<Result<Receipt, SendError>>) -> Self {
        let item = |result| match result {
            Ok(receipt) => Item::Accepted { code: 200, receipt },
            Err(error) => Item::from(ApiError::from(error).failure()),
        };
        let results: Vec<Item> = outcome.into_iter().map(item).collect();
        let accepted = results.iter().filter(|item| matches!(item, Item::Accepted { .. })).count();
        Self { accepted, rejected: results.len() - accepted, results }
    }

    fn count(&self, metrics: &ApiMetrics, caller: &Caller) {
        if self.accepted > 0 {
            metrics.accepted(SendKind::Batch, caller.kind(), self.accepted as u64);
        }
        for item in &self.results {
            if let Item::Refused { error, .. } = item {
                metrics.rejected(error.kind);
            }
        }
    }
}

/// `POST /messages/send-batch`
pub(super) async fn send_batch(
    State(state): State<ApiState>,
    Submitter(caller): Submitter,
    toll: Toll,
    answer: Answer,
    body: Result<Batch, ApiError>,
) -> Result<Response, ApiError> {
    let metrics = &state.0.metrics;
    let Batch(Repeatable { body: messages, keyed }) =
        body.inspect_err(|error| metrics.rejected(error.failure().kind))?;
    let count = messages.len();
    let (sending, sender) = (state.clone(), caller.clone());
    let run = async move |keep: Keep| {
        // A repeat that is answered as before costs one request, whatever it has in it.
        toll.pay_batch(&sender, count)?;
        let prepared = sending.0.sender.prepare_batch(&sender, messages).await?;
        let prepared = prepared.map(Results::of);
        let stored = keep.answer(&prepared.outcome);
        let results = sending.0.sender.store(prepared, stored).await?;
        results.count(&sending.0.metrics, &sender);
        Ok(answer.success(&results))
    };
    let done = idempotency::once(&state, &caller, keyed, answer, run).await;
    done.inspect_err(|error| {
        for _ in 0..count {
            metrics.rejected(error.failure().kind);
        }
    })
}
