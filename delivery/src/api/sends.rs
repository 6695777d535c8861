//! Sending.

pub(super) mod docs;

use axum::{
    extract::{FromRequest, Request, State},
    response::Response,
};
use protocol::{ErrorType, FieldProblem, MessageId, limits::ID_BYTES_MAX};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    ApiState,
    answer::Answer,
    body::{BATCH_BODY_BYTES_MAX, Decoded, Payload, Raw},
    caller::Submitter,
    doc::{Part, Payloaded, Told},
    error::{ApiError, Failure},
    metrics::SendKind,
    shape::{
        self, Form, ID, LINK, NO_OR_ID, NO_OR_LINK, Shape, formed, may, must, some_text, text,
    },
    toll::Toll,
};
use crate::{
    identity::Caller,
    object::Object,
    send::{
        Receipt, SendError, SendRequest,
        limits::{
            ACTIONS_MAX, ATTACHMENT_SIZE_MAX, ATTACHMENTS_MAX, BATCH_MAX, CONTENT_BYTES_MAX,
            MESSAGE_TYPE_BYTES_MAX, METADATA_BYTES_MAX, RECIPIENTS_MAX, SHORT_TEXT_BYTES_MAX,
            TITLE_BYTES_MAX,
        },
    },
    template::{VARIABLES_MAX, locale::LOCALE_BYTES_MAX},
};

const SENDER: Shape = Shape::Object(&[
    must("id", ID, "The sender's id."),
    must("type", Shape::Word(&["user", "service", "system"]), "What the sender is."),
    may("name", text(SHORT_TEXT_BYTES_MAX), "What to show."),
    may("avatar", NO_OR_LINK, "A picture."),
    may(
        "service_id",
        text(ID_BYTES_MAX),
        "Always the service that sends; what is said here is not looked at.",
    ),
]);

const ATTACHMENT: Shape = Shape::Object(&[
    must("type", Shape::Word(&["file", "image", "link", "document"]), "What it is."),
    may("name", text(SHORT_TEXT_BYTES_MAX), "Its name."),
    must("url", LINK, "Where to get it."),
    may("size", Shape::Whole(0, ATTACHMENT_SIZE_MAX), "Its size in bytes."),
    may("mime_type", text(SHORT_TEXT_BYTES_MAX), "Its MIME type."),
    may("thumbnail", NO_OR_LINK, "A small picture."),
]);

const ACTION: Shape = Shape::Object(&[
    must("type", Shape::Word(&["button", "link", "confirm"]), "What it is."),
    must("text", some_text(SHORT_TEXT_BYTES_MAX), "What the button says."),
    may("url", NO_OR_LINK, "Where a link leads; a `link` must have one."),
    may("action", text(SHORT_TEXT_BYTES_MAX), "What the sender is told when it is pressed."),
    may("style", Shape::NoOrWord(&["primary", "secondary", "danger"]), "How it looks."),
]);

pub(super) const MESSAGE_TYPE: Shape =
    formed(Form::Pattern("^[A-Za-z0-9_.:-]*$"), 0, MESSAGE_TYPE_BYTES_MAX);

/// A language such as `en` or `zh-Hant-TW`, or an empty text for none.
pub(super) const LOCALE: Shape =
    formed(Form::Pattern("^([A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*)?$"), 0, LOCALE_BYTES_MAX);

const MESSAGE: Shape = Shape::Object(&[
    may("channel_id", NO_OR_ID, "The channel it belongs to."),
    may("title", text(TITLE_BYTES_MAX), "Title. Without a template, title or content is needed."),
    may("content", text(CONTENT_BYTES_MAX), "Content."),
    may(
        "message_type",
        MESSAGE_TYPE,
        "A word of the sender's choice, such as `file_share`; `text` where nothing says otherwise. \
         `alert`, `system` and `announcement` are for system services and admins.",
    ),
    may("recipients", Shape::List(&ID, 0, RECIPIENTS_MAX), "Who receives it; each once."),
    may(
        "recipient_type",
        Shape::NoOrWord(&["user", "all"]),
        "What the recipients are; `all` is everybody in the tenant, and then none are named.",
    ),
    may(
        "sender",
        SENDER,
        "Who it is shown to come from, where a service or an admin says. Of users it is not looked at.",
    ),
    may(
        "on_behalf_of",
        NO_OR_ID,
        "The user in whose name a service sends; needs the permission `on_behalf_of`.",
    ),
    may(
        "priority",
        Shape::Whole(1, 10),
        "1 (lowest) to 10; the template's, else 5, where nothing is said.",
    ),
    may("scheduled_at", Shape::Time, "When it is to be sent. A time that has passed means now."),
    may(
        "expire_at",
        Shape::Time,
        "From this moment, which must be ahead, it is not shown any more.",
    ),
    may(
        "metadata",
        Shape::Map(usize::MAX, METADATA_BYTES_MAX),
        "Free data, 16 levels deep at most.",
    ),
    may("attachments", Shape::List(&ATTACHMENT, 0, ATTACHMENTS_MAX), "Files and links."),
    may(
        "actions",
        Shape::List(&ACTION, 0, ACTIONS_MAX),
        "Buttons; the template's where nothing is said.",
    ),
    may(
        "template_id",
        NO_OR_ID,
        "The template it is made from, which then brings title, content and message_type.",
    ),
    may(
        "variables",
        Shape::Map(VARIABLES_MAX, usize::MAX),
        "What the template is filled with: texts, numbers, truth values.",
    ),
    may(
        "locale",
        LOCALE,
        "The language to take of the template: the variant of that name, else of the language without \
         its region, else the template's own text.",
    ),
]);

impl Payload for SendRequest {
    const SHAPE: Shape = MESSAGE;
}

/// `POST /messages/send`
pub(super) async fn send(
    State(state): State<ApiState>,
    Submitter(caller): Submitter,
    answer: Answer,
    body: Result<Decoded<SendRequest>, ApiError>,
) -> Result<Response, ApiError> {
    one(&state, &caller, answer, body, SendKind::Send).await
}

/// `POST /messages/send-template`
pub(super) async fn send_template(
    State(state): State<ApiState>,
    Submitter(caller): Submitter,
    answer: Answer,
    body: Result<Decoded<SendRequest>, ApiError>,
) -> Result<Response, ApiError> {
    let body = body.and_then(|body| match body.0.template_id.as_deref() {
        None | Some("") => Err(ApiError::field("template_id", "is missing")),
        Some(_) => Ok(body),
    });
    one(&state, &caller, answer, body, SendKind::Template).await
}

async fn one(
    state: &ApiState,
    caller: &Caller,
    answer: Answer,
    body: Result<Decoded<SendRequest>, ApiError>,
    kind: SendKind,
) -> Result<Response, ApiError> {
    let sent = match body {
        Ok(Decoded(request)) => state.0.sender.send(caller, request).await.map_err(ApiError::from),
        Err(error) => Err(error),
    };
    match sent {
        Ok(receipt) => {
            state.0.metrics.accepted(kind, caller.kind(), 1);
            Ok(answer.success(&receipt))
        }
        Err(error) => {
            state.0.metrics.rejected(error.failure().kind);
            Err(error)
        }
    }
}

/// A batch: read straight into its structs if all of it can be; else message by message, so that one
/// that cannot be read does not take the others with it.
pub(super) struct Batch(Vec<Result<SendRequest, Vec<FieldProblem>>>);

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

const BATCH: Shape = Shape::Object(&[must(
    "messages",
    Shape::List(&Shape::Lenient(&MESSAGE), 1, BATCH_MAX),
    "Each as for `send`. One that is not is refused by itself.",
)]);

impl Part for Batch {
    fn tell(told: &mut Told) {
        told.body(Payloaded {
            name: "BatchRequest",
            shape: BATCH,
            bytes_max: BATCH_BODY_BYTES_MAX,
            optional: false,
        });
    }
}

impl FromRequest<ApiState> for Batch {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        let timeout = state.0.config.body_timeout;
        let raw = Raw::read(request, BATCH_BODY_BYTES_MAX, false, timeout).await?;
        let messages: Vec<_> = match raw.decode::<Whole>(&BATCH) {
            Ok(whole) => whole.messages.into_iter().map(|message| Ok(message.0)).collect(),
            Err(_) => {
                let pieces: Pieces = raw.decode(&BATCH)?;
                pieces.messages.into_iter().map(message).collect()
            }
        };
        if (1..=BATCH_MAX).contains(&messages.len()) {
            return Ok(Self(messages));
        }
        let problem = format!("must have 1 to {BATCH_MAX} entries, has {}", messages.len());
        Err(ApiError::field("messages", problem))
    }
}

fn message(mut tree: Value) -> Result<SendRequest, Vec<FieldProblem>> {
    shape::settle(&mut tree, &MESSAGE);
    let found = shape::problems(&tree, &MESSAGE);
    if !found.is_empty() {
        return Err(found);
    }
    serde_json::from_value(tree)
        .map_err(|error| vec![FieldProblem { path: "body".to_owned(), problem: error.to_string() }])
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BatchResults")]
struct Results {
    /// One for each message, in order.
    results: Vec<Item>,
    /// How many were accepted.
    accepted: usize,
    /// How many were refused.
    rejected: usize,
}

/// What became of one message of a batch.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "BatchItem")]
enum Item {
    /// It was stored.
    Accepted {
        /// 200.
        code: u16,
        #[serde(flatten)]
        receipt: Receipt,
    },
    /// It was not.
    Refused {
        /// The status it would have been answered with by itself.
        code: u16,
        /// One sentence.
        message: String,
        /// Null.
        message_id: Option<MessageId>,
        /// What went wrong.
        error: ItemError,
    },
}

/// What went wrong with one message of a batch.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BatchItemError")]
struct ItemError {
    /// Stable slug.
    #[serde(rename = "type")]
    kind: ErrorType,
    /// The fields at fault.
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

/// `POST /messages/send-batch`
pub(super) async fn send_batch(
    State(state): State<ApiState>,
    Submitter(caller): Submitter,
    toll: Toll,
    answer: Answer,
    body: Result<Batch, ApiError>,
) -> Result<Response, ApiError> {
    let Batch(messages) = body.inspect_err(|error| {
        state.0.metrics.rejected(error.failure().kind);
    })?;
    let count = messages.len();
    toll.pay_batch(&caller, count).inspect_err(|error| {
        for _ in 0..count {
            state.0.metrics.rejected(error.failure().kind);
        }
    })?;
    let sent = state.0.sender.send_batch(&caller, messages).await.inspect_err(|error| {
        for _ in 0..count {
            state.0.metrics.rejected(ErrorType::Unavailable);
        }
        tracing::debug!(error = error as &dyn std::error::Error, "a batch was not stored");
    })?;
    let mut accepted = 0;
    let results: Vec<Item> = sent
        .into_iter()
        .map(|result: Result<Receipt, SendError>| match result {
            Ok(receipt) => {
                accepted += 1;
                Item::Accepted { code: 200, receipt }
            }
            Err(error) => {
                let failure = ApiError::from(error).failure();
                state.0.metrics.rejected(failure.kind);
                Item::from(failure)
            }
        })
        .collect();
    if accepted > 0 {
        state.0.metrics.accepted(SendKind::Batch, caller.kind(), accepted as u64);
    }
    Ok(answer.success(&Results { accepted, rejected: results.len() - accepted, results }))
}
