//! What became of a message, and what its sender can still do: change it, take it back, not send it.
//! Whoever is neither its sender nor an admin is told that there is no such message.

pub(super) mod docs;

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use http::Uri;
use protocol::{Body, MessageFields, MessageId, TenantId, Time};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ApiState,
    answer::Answer,
    body::{Decoded, Nothing, Payload},
    caller::{Admin, Asker},
    error::ApiError,
    messages::message_id,
    query::{ID_CURSOR_PARAMETER, PageMeta, Parameters, SIZE, TENANT_ID},
    sends::{ACTION, ATTACHMENT},
    shape::{Field, Shape, may, text},
    trace::Trace,
};
use crate::{
    StoreError,
    identity::{Caller, with_all_rights},
    send::{
        self, EditRequest, SendError,
        limits::{
            ACTIONS_MAX, ATTACHMENTS_MAX, CONTENT_BYTES_MAX, METADATA_BYTES_MAX, TITLE_BYTES_MAX,
        },
    },
    store::{Audience, Receipt, SenderKey, SentMessage, SentState, WaitingMessage},
};

impl Payload for EditRequest {
    const SHAPE: Shape = Shape::Object(&[
        may("title", text(TITLE_BYTES_MAX), "Title. An empty one changes nothing."),
        may("content", text(CONTENT_BYTES_MAX), "Content. An empty one changes nothing."),
        may("priority", Shape::Whole(1, 10), "1 (lowest) to 10."),
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
            "Buttons. What was pressed stays pressed, at its index.",
        ),
        fixed("channel_id"),
        fixed("message_type"),
        fixed("recipients"),
        fixed("recipient_type"),
        fixed("sender"),
        fixed("on_behalf_of"),
        fixed("scheduled_at"),
        fixed("collapse_key"),
        fixed("template_id"),
        fixed("variables"),
        fixed("locale"),
    ]);
}

/// What stands since the message was sent.
const fn fixed(name: &'static str) -> Field {
    may(name, Shape::Fixed, "Stands since the message was sent.")
}

/// The query of what is done to one message.
const OF_MESSAGE: &[Field] = &[];
const OF_MESSAGE_BY_ADMIN: &[Field] = &[TENANT_ID];

/// The query of its receipts.
const RECEIPTS: &[Field] = &[ID_CURSOR_PARAMETER, SIZE];
const RECEIPTS_BY_ADMIN: &[Field] = &[TENANT_ID, ID_CURSOR_PARAMETER, SIZE];

/// How often an edit is made anew because somebody else's came between reading and writing. Each time one of
/// them has come through, so this many at the same moment are refused for a moment.
const EDIT_TRIES_MAX: usize = 16;

/// The query of what waits.
const WAITING: &[Field] = RECEIPTS_BY_ADMIN;

type IdPath = Result<Path<String>, PathRejection>;

/// The message, if the caller may know of it.
async fn managed(
    state: &ApiState,
    caller: &Caller,
    tenant: &TenantId,
    id: IdPath,
) -> Result<SentMessage, ApiError> {
    let sent = state.0.store.sent(tenant, &message_id(id)?).await?.ok_or(StoreError::NotFound)?;
    let may = caller.may_manage(&sent.sender)
        || with_all_rights(&*state.0.directory, caller).await?.may_manage(&sent.sender);
    if may { Ok(sent) } else { Err(StoreError::NotFound.into()) }
}

/// A message that the caller may change, and its wall.
struct Change {
    tenant: TenantId,
    id: MessageId,
}

async fn changeable<A: Asker>(
    state: &ApiState,
    who: A,
    trace: &Trace,
    uri: &Uri,
    id: IdPath,
) -> Result<Change, ApiError> {
    let query = if A::ADMIN { OF_MESSAGE_BY_ADMIN } else { OF_MESSAGE };
    let mut parameters = Parameters::new(uri, query)?;
    let tenant = who.tenant(&mut parameters);
    parameters.finish()?;
    let caller = who.caller();
    send::check_write(&caller).map_err(SendError::Refused)?;
    let sent = managed(state, &caller, &tenant, id).await?;
    trace.of_tenant(&tenant);
    trace.before(Stands { message_id: sent.id.clone(), state: sent.state });
    Ok(Change { tenant, id: sent.id })
}

/// A message as its sender sees it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EditedMessage")]
struct Edited {
    /// The message's id.
    message_id: MessageId,
    /// Whether it waits or was sent.
    state: SentState,
    /// Whether the edit changed anything.
    changed: bool,
    /// As it is now.
    message: MessageFields,
}

/// `PUT /messages/{id}`, and the same below `/admin`
pub(super) async fn edit<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    trace: Trace,
    answer: Answer,
    id: IdPath,
    OriginalUri(uri): OriginalUri,
    Decoded(body): Decoded<EditRequest>,
) -> Result<Response, ApiError> {
    let change = changeable(&state, who, &trace, &uri, id).await?;
    let mut tries = 1;
    let (state, changed, message) = loop {
        match try_edit(&state, &change, &body).await {
            Err(ApiError::Store(StoreError::Raced)) if tries < EDIT_TRIES_MAX => tries += 1,
            done => break done?,
        }
    };
    trace.after(Stands { message_id: change.id.clone(), state });
    Ok(answer.success(&Edited { message_id: change.id, state, changed, message }))
}

/// One try: what the edit leaves out is taken from what is there.
async fn try_edit(
    state: &ApiState,
    change: &Change,
    edit: &EditRequest,
) -> Result<(SentState, bool, MessageFields), ApiError> {
    let Change { tenant, id, .. } = change;
    let store = &state.0.store;
    // Before its state: if it is sent in between, it says something else than this, and the edit is raced.
    let over = store.sent_body(tenant, id).await?;
    let sent = store.sent(tenant, id).await?.ok_or(StoreError::NotFound)?;
    let waits_until = match sent.state {
        SentState::Scheduled => sent.scheduled_at,
        SentState::Sent => None,
        SentState::Cancelled => {
            return Err(StoreError::Conflict("the message was cancelled").into());
        }
        SentState::Recalled => return Err(StoreError::Conflict("the message was recalled").into()),
    };
    let over = over.ok_or(StoreError::NotFound)?;
    let now = state.0.control.clock().now();
    if over.expired(now) {
        return Err(StoreError::Conflict("the message has expired").into());
    }
    let before = over.fields()?;
    let after = edit.clone().apply(&before, waits_until, now).map_err(SendError::Invalid)?;
    if let Some(after) = &after {
        store.edit(tenant, id, Some(over), Body::new(after).into()).await?;
    }
    let changed = after.is_some();
    Ok((sent.state, changed, after.unwrap_or(before)))
}

/// What has become of a message.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MessageStands")]
struct Stands {
    /// The message's id.
    message_id: MessageId,
    /// What has become of it.
    state: SentState,
}

/// `POST /messages/{id}/recall`, and the same below `/admin`
pub(super) async fn recall<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    trace: Trace,
    answer: Answer,
    id: IdPath,
    OriginalUri(uri): OriginalUri,
    Decoded(Nothing {}): Decoded<Nothing>,
) -> Result<Response, ApiError> {
    let change = changeable(&state, who, &trace, &uri, id).await?;
    let Change { tenant, id, .. } = &change;
    let stands = state.0.store.recall(tenant, id).await?;
    let stands = Stands { message_id: change.id, state: stands };
    trace.after(&stands);
    Ok(answer.success(&stands))
}

/// `POST /messages/{id}/cancel`, and the same below `/admin`
pub(super) async fn cancel<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    trace: Trace,
    answer: Answer,
    id: IdPath,
    OriginalUri(uri): OriginalUri,
    Decoded(Nothing {}): Decoded<Nothing>,
) -> Result<Response, ApiError> {
    let change = changeable(&state, who, &trace, &uri, id).await?;
    let Change { tenant, id, .. } = &change;
    state.0.store.cancel(tenant, id).await?;
    let stands = Stands { message_id: change.id, state: SentState::Cancelled };
    trace.after(&stands);
    Ok(answer.success(&stands))
}

/// A message and what became of it at its recipients.
#[derive(Serialize, JsonSchema)]
struct Receipts {
    /// The message's id.
    message_id: MessageId,
    /// What has become of it.
    state: SentState,
    /// When its sender was told that it is durable.
    accepted_at: Time,
    /// When it is to be sent; null for one that was not to wait.
    scheduled_at: Option<Time>,
    /// When it was sent; null while it waits, and for one that was cancelled.
    sent_at: Option<Time>,
    /// Null where groups or everyone received it: nobody counts them for it.
    recipients: Option<u64>,
    /// In the order of their users' ids.
    receipts: Vec<Receipt>,
}

/// `GET /messages/{id}/receipts`, and the same below `/admin`
pub(super) async fn receipts<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    answer: Answer,
    id: IdPath,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let query = if A::ADMIN { RECEIPTS_BY_ADMIN } else { RECEIPTS };
    let mut parameters = Parameters::new(&uri, query)?;
    let tenant = who.tenant(&mut parameters);
    let (after, size) = parameters.id_paging();
    parameters.finish()?;
    let sent = managed(&state, &who.caller(), &tenant, id).await?;
    let page = state.0.store.receipts(&tenant, &sent.id, after, size).await?;
    let last = page.receipts.last().filter(|_| page.more);
    let meta = PageMeta::of_ids(size, last.map(|last| last.user_id.as_str()));
    let recipients = counted(&sent.audience);
    let receipts = Receipts {
        message_id: sent.id,
        state: sent.state,
        accepted_at: sent.accepted_at,
        scheduled_at: sent.scheduled_at,
        sent_at: sent.sent_at,
        recipients,
        receipts: page.receipts,
    };
    Ok(answer.page(&receipts, &meta))
}

/// Messages that wait for their time.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ScheduledList")]
struct WaitingList {
    /// Soonest first.
    messages: Vec<Waits>,
}

/// A message that waits for its time.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ScheduledMessage")]
struct Waits {
    /// Its id.
    message_id: MessageId,
    /// When it is to be sent.
    scheduled_at: Option<Time>,
    /// When its sender was told that it is durable.
    accepted_at: Time,
    /// Whose it is: `service:<id>`, `user:<id>` or `admin`.
    sent_by: String,
    /// Users who are named; null where groups or everyone will receive it.
    recipients: Option<u64>,
    /// Its title.
    title: String,
    /// Its type.
    message_type: String,
    /// 1 to 10.
    priority: u8,
}

impl Waits {
    fn new(WaitingMessage { message, body }: &WaitingMessage) -> Result<Self, ApiError> {
        let MessageFields { title, message_type, priority, .. } = body.fields()?;
        Ok(Self {
            message_id: message.id.clone(),
            scheduled_at: message.scheduled_at,
            accepted_at: message.accepted_at,
            sent_by: match &message.sender {
                SenderKey::Service(id) => format!("service:{id}"),
                SenderKey::User(id) => format!("user:{id}"),
                SenderKey::Admin => "admin".to_owned(),
            },
            recipients: counted(&message.audience),
            title,
            message_type,
            priority,
        })
    }
}

/// How many receive it, where that was counted.
fn counted(audience: &Audience) -> Option<u64> {
    match audience {
        Audience::Some { users, groups } if groups.is_empty() => Some(users.len() as u64),
        Audience::Some { .. } | Audience::Everyone => None,
    }
}

/// Where a page of what waits ended, as its cursor has it: milliseconds and an id.
struct Place(Time, MessageId);

impl std::str::FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, id) = text.split_once(':').ok_or(())?;
        let at = at.parse().map_err(|_| ())?;
        Ok(Self(Time::from_millis(at), MessageId::new(id).map_err(|_| ())?))
    }
}

/// `GET /admin/messages/scheduled`
pub(super) async fn waiting(
    State(state): State<ApiState>,
    admin: Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, WAITING)?;
    let tenant = admin.asked_tenant(&mut parameters).unwrap_or_default();
    let (after, size) = parameters.id_paging::<Place>();
    parameters.finish()?;
    let after = after.map(|Place(at, id)| (at, id));
    let page = state.0.store.waiting(&tenant, after, size).await?;
    let next = page.next.map(|(at, id)| format!("{}:{id}", at.millis()));
    let messages = page.messages.iter().map(Waits::new).collect::<Result<_, _>>()?;
    Ok(answer.page(&WaitingList { messages }, &PageMeta::of_ids(size, next.as_deref())))
}
