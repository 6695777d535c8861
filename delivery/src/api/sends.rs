//! Sending.

pub(super) mod docs;

use axum::{
    extract::{FromRequest, OriginalUri, Request, State},
    response::Response,
};
use protocol::{ErrorType, FieldProblem, MessageId, limits::ID_BYTES_MAX};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    ApiState,
    answer::Answer,
    body::{BATCH_BODY_BYTES_MAX, Payload, Raw, Repeatable},
    caller::{Anyone, Asker, Submitter, of_port},
    doc::{Part, Payloaded, Told},
    error::{ApiError, Failure},
    idempotency::{self, Keep},
    metrics::{ApiMetrics, SendKind},
    query::{Parameters, TENANT_ID},
    shape::{
        self, Field, Form, ID, LINK, NO_OR_ID, NO_OR_LINK, Shape, formed, may, must, some_text,
        text,
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

pub(super) const ATTACHMENT: Shape = Shape::Object(&[
    must("type", Shape::Word(&["file", "image", "link", "document"]), "What it is."),
    may("name", text(SHORT_TEXT_BYTES_MAX), "Its name."),
    must("url", LINK, "Where to get it."),
    may("size", Shape::Whole(0, ATTACHMENT_SIZE_MAX), "Its size in bytes."),
    may("mime_type", text(SHORT_TEXT_BYTES_MAX), "Its MIME type."),
    may("thumbnail", NO_OR_LINK, "A small picture."),
]);

pub(super) const ACTION: Shape = Shape::Object(&[
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
    may(
        "channel_id",
        NO_OR_ID,
        "The channel it is put among the messages of; the only recipient, where that is a channel, \
         unless said.",
    ),
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
        Shape::NoOrWord(&["user", "channel", "role", "all"]),
        "What the recipients are; `all` is everybody in the tenant, and then none are named. Left \
         out, each is a user who is known, else a channel, else a role that somebody carries, else \
         a user.",
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
    may(
        "scheduled_at",
        Shape::Time,
        "When it is to be sent, at most a year ahead. A time that has passed means now.",
    ),
    may(
        "expire_at",
        Shape::Time,
        "From this moment, which must be ahead, it is not shown any more.",
    ),
    may(
        "collapse_key",
        NO_OR_ID,
        "A message of the same sender with the same key takes the place of the one before it.",
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

/// What may stand in the query of a send.
const fn query<A: Asker>() -> &'static [Field] {
    of_port::<A>(&[], &[TENANT_ID])
}

/// `POST /messages/send`, and the same below `/admin`
pub(super) async fn send<A: Asker>(
    State(state): State<ApiState>,
    Submitter(who): Submitter<A>,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    body: Result<Repeatable<SendRequest>, ApiError>,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, query::<A>())?;
    let caller = who.caller_behind(&mut parameters);
    parameters.finish()?;
    one(state, caller, answer, body, SendKind::Send).await
}

/// `POST /messages/send-template`
pub(super) async fn send_template(
    State(state): State<ApiState>,
    Submitter(Anyone(caller)): Submitter<Anyone>,
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
        let noted = sending.0.tail.note(&prepared);
        let receipt = sending.0.sender.store(prepared, stored).await?;
        sending.0.tail.accepted(noted);
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
        told.repeatable();
    }
}

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
    Submitter(Anyone(caller)): Submitter<Anyone>,
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
        let noted = sending.0.tail.note(&prepared);
        let results = sending.0.sender.store(prepared, stored).await?;
        sending.0.tail.accepted(noted);
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
