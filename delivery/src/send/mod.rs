//! The path of a message from a request to the store.
//!
//! ```text
//! validate -> permission -> render -> recipients -> Store::append -> receipt
//! ```
//! Everything before `append` is computation; the one wait is for the disk. A receipt means that
//! the message is durable for every recipient.

pub mod limits;
mod permission;
mod request;
mod validate;

use std::{collections::HashSet, sync::Arc};

use protocol::{Body, FieldProblem, MessageFields, MessageId, Time, UserId};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    clock,
    control::ControlError,
    identity::Caller,
    store::{Audience, Outgoing, Store, StoreError},
    template::{Rendered, Templates},
};

pub(crate) use permission::is_reserved_type;
pub use permission::{RESERVED_TYPES, Refusal};
pub use request::{Recipient, SendRequest};

use request::given;
use validate::Checked;

/// The priority where nothing says otherwise.
pub const DEFAULT_PRIORITY: u8 = 5;

/// The message type where nothing says otherwise (seed 003 §3.3).
pub const DEFAULT_TYPE: &str = "text";

/// A message was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Receipt {
    /// Its id.
    pub message_id: MessageId,
    /// `accepted`.
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

    /// Sends one message.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, caller: &Caller, request: SendRequest) -> Result<Receipt, SendError> {
        let (outgoing, receipt) = self.prepare(caller, request, clock::now())?;
        self.store.append(vec![outgoing]).await?;
        Ok(receipt)
    }

    /// Sends many, in one append. Each is accepted or refused by itself, in order; a request that
    /// could not even be read comes with its problems.
    ///
    /// # Errors
    /// [`StoreError`] when the good ones could not be stored; then none of them was accepted.
    pub async fn send_batch(
        &self,
        caller: &Caller,
        requests: Vec<Result<SendRequest, Vec<FieldProblem>>>,
    ) -> Result<Vec<Result<Receipt, SendError>>, StoreError> {
        let now = clock::now();
        let mut good = Vec::with_capacity(requests.len());
        let results = requests
            .into_iter()
            .map(|request| {
                let request = request.map_err(SendError::Invalid)?;
                let (outgoing, receipt) = self.prepare(caller, request, now)?;
                good.push(outgoing);
                Ok(receipt)
            })
            .collect();
        if !good.is_empty() {
            self.store.append(good).await?;
        }
        Ok(results)
    }

    /// Everything but the store.
    fn prepare(
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
        let Checked { request, template, channel_id, message_type, on_behalf_of, priority } =
            checked;
        let id = message_id();
        let audience = match request.recipients {
            Some(recipients) if !recipients.is_empty() => Audience::Users(distinct(recipients)),
            // `Checked` lets nothing but `all` come without recipients.
            _ => Audience::Everyone,
        };
        let count = match &audience {
            Audience::Users(users) => Some(users.len() as u64),
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
            created_at: now,
            expire_at: request.expire_at,
            metadata: request.metadata.unwrap_or_default(),
            attachments: request.attachments.unwrap_or_default(),
            actions: request.actions.unwrap_or(rendered.actions),
        };
        let body = Arc::new(Body::new(&fields));
        let receipt = Receipt { message_id: id, status: "accepted", recipients: count };
        Ok((Outgoing { tenant, audience, body }, receipt))
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
