//! The path of a message from a request to the store.
//!
//! ```text
//! validate -> permission -> render -> recipients -> Store::append -> receipt
//! ```
//! Everything before `append` is computation; the one wait is for the disk. A receipt means that
//! the message is durable for every recipient. The two halves are two calls, so that the answer to
//! a request with an `Idempotency-Key` can be stored with its messages: what it says is known before.
//!
//! [`EditRequest`] is what may be changed afterwards.

mod edit;
pub mod limits;
mod permission;
mod request;
mod validate;

use std::{collections::HashSet, sync::Arc};

use protocol::{Body, FieldProblem, MessageFields, MessageId, Time, UserId};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    clock,
    control::ControlError,
    identity::Caller,
    store::{Audience, Batch, Outgoing, Store, StoreError, StoredAnswer},
    template::{Rendered, Templates},
};

pub use edit::EditRequest;
pub use permission::{RESERVED_TYPES, Refusal};
pub(crate) use permission::{check_write, is_reserved_type};
pub use request::{Recipient, SendRequest};

use request::given;
use validate::Checked;

/// The priority where nothing says otherwise.
pub const DEFAULT_PRIORITY: u8 = 5;

/// The message type where nothing says otherwise (seed 003 §3.3).
pub const DEFAULT_TYPE: &str = "text";

/// What a sender is told of a message that was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// Its id.
    pub message_id: MessageId,
    /// `accepted`, or `scheduled` for one that waits for its time.
    pub status: &'static str,
    /// How many receive it, duplicates counted once; none for `recipient_type` `all`, because
    /// nobody counts the tenant's inboxes for it.
    pub recipients: Option<u64>,
}

/// Why a message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Its content is not valid; every problem that was found, at most [`limits::PROBLEMS_MAX`].
    #[error("the message is not valid")]
    Invalid(Vec<FieldProblem>),
    /// The caller may not send this.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Templates cannot be looked up now.
    #[error("templates cannot be looked up now")]
    Templates(#[source] ControlError),
    /// The store could not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Messages that can be sent and wait to be stored.
#[derive(Debug)]
pub struct Prepared<T> {
    items: Vec<Outgoing>,
    /// What their sender is told once they are stored.
    pub outcome: T,
}

impl<T> Prepared<T> {
    /// With another form of the outcome.
    pub fn map<U>(self, into: impl FnOnce(T) -> U) -> Prepared<U> {
        Prepared { items: self.items, outcome: into(self.outcome) }
    }
}

/// Sends. The only way from a request to the store.
pub struct Sender {
    store: Arc<dyn Store>,
    templates: Arc<Templates>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    /// A sender into this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, templates: Arc<Templates>) -> Self {
        Self { store, templates }
    }

    /// Everything but the store, for one message.
    ///
    /// # Errors
    /// [`SendError`], but for that of the store.
    pub async fn prepare(
        &self,
        caller: &Caller,
        request: SendRequest,
    ) -> Result<Prepared<Receipt>, SendError> {
        let (outgoing, outcome) = self.prepare_one(caller, request, clock::now())?;
        Ok(Prepared { items: vec![outgoing], outcome })
    }

    /// As [`Sender::prepare`], for many. Each is accepted or refused by itself, in order; a request
    /// that could not even be read comes with its problems.
    pub async fn prepare_batch(
        &self,
        caller: &Caller,
        requests: Vec<Result<SendRequest, Vec<FieldProblem>>>,
    ) -> Prepared<Vec<Result<Receipt, SendError>>> {
        let now = clock::now();
        let mut items = Vec::with_capacity(requests.len());
        let outcome = requests
            .into_iter()
            .map(|request| {
                let request = request.map_err(SendError::Invalid)?;
                let (outgoing, receipt) = self.prepare_one(caller, request, now)?;
                items.push(outgoing);
                Ok(receipt)
            })
            .collect();
        Prepared { items, outcome }
    }

    /// Stores what was prepared, and with it the answer to its request, where that is kept. Where
    /// nothing was accepted nothing is stored: the same request may be good tomorrow.
    ///
    /// # Errors
    /// [`StoreError`]; then none of it was accepted.
    pub async fn store<T>(
        &self,
        prepared: Prepared<T>,
        answer: Option<StoredAnswer>,
    ) -> Result<T, StoreError> {
        let Prepared { items, outcome } = prepared;
        if !items.is_empty() {
            self.store.append(Batch { items, answer }).await?;
        }
        Ok(outcome)
    }

    fn prepare_one(
        &self,
        caller: &Caller,
        request: SendRequest,
        now: Time,
    ) -> Result<(Outgoing, Receipt), SendError> {
        let tenant = caller.tenant();
        let template = match given(request.template_id.as_ref()) {
            Some(id) => self.templates.get(&tenant, id).map_err(SendError::Templates)?,
            None => None,
        };
        let checked = Checked::new(request, template, now).map_err(SendError::Invalid)?;
        permission::check(caller, &checked)?;
        let rendered = match &checked.template {
            Some(template) => {
                let own_actions = checked.request.actions.is_some();
                template
                    .render(
                        checked.request.variables.as_ref().unwrap_or(&serde_json::Map::new()),
                        given(checked.request.locale.as_ref()),
                        !own_actions,
                    )
                    .map_err(SendError::Invalid)?
            }
            None => Rendered::default(),
        };
        let sender_info = permission::sender(caller, &checked);
        let Checked {
            request,
            template,
            channel_id,
            message_type,
            on_behalf_of,
            priority,
            scheduled_at,
        } = checked;
        let id = message_id();
        let audience = match request.recipients {
            Some(recipients) if !recipients.is_empty() => Audience::users(distinct(recipients)),
            // `Checked` lets nothing but `all` come without recipients.
            _ => Audience::Everyone,
        };
        let count = match &audience {
            Audience::Some { users, .. } => Some(users.len() as u64),
            Audience::Everyone => None,
        };
        let fields = MessageFields {
            id: id.clone(),
            channel_id,
            title: non_empty(request.title).unwrap_or(rendered.title),
            content: non_empty(request.content).unwrap_or(rendered.content),
            message_type,
            priority,
            sender: sender_info.id.clone(),
            sender_info: Some(sender_info),
            on_behalf_of,
            template_id: template.map(|template| template.source.id.clone()),
            // Recipients see it from then on. Its age, for lists and retention, counts from there.
            created_at: scheduled_at.unwrap_or(now),
            edited_at: None,
            expire_at: request.expire_at,
            collapse_key: non_empty(request.collapse_key),
            metadata: request.metadata.unwrap_or_default(),
            attachments: request.attachments.unwrap_or_default(),
            actions: request.actions.unwrap_or(rendered.actions),
        };
        let body = Arc::new(Body::new(&fields));
        let status = if scheduled_at.is_some() { "scheduled" } else { "accepted" };
        let receipt = Receipt { message_id: id, status, recipients: count };
        let sender = caller.sender_key();
        Ok((Outgoing { tenant, sender, audience, body, scheduled_at }, receipt))
    }
}

fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// `msg-` and a UUID v7: ids sort by time, which keeps index pages together.
fn message_id() -> MessageId {
    const PREFIX: &[u8; 4] = b"msg-";
    let mut text = [0; PREFIX.len() + uuid::fmt::Simple::LENGTH];
    text[..PREFIX.len()].copy_from_slice(PREFIX);
    Uuid::now_v7().simple().encode_lower(&mut text[PREFIX.len()..]);
    let text = std::str::from_utf8(&text).expect("ASCII");
    MessageId::new(text).expect("36 plain characters")
}

/// Each user once, in the order of their first mention.
fn distinct(recipients: Vec<Recipient>) -> Vec<UserId> {
    let users = recipients.into_iter().filter_map(|recipient| recipient.0.ok());
    let mut users: Vec<UserId> = users.collect();
    if users.len() > 1 {
        // The default hasher: ids come from outside, and a cheap hash could be attacked.
        let mut seen = HashSet::with_capacity(users.len());
        users.retain(|user| seen.insert(user.clone()));
    }
    users
}

#[cfg(test)]
mod tests;
