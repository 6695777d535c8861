//! The path of a message from a request to the store.
//!
//! ```text
//! validate -> permission -> render -> recipients -> Store::append -> receipt
//! ```
//! What names mean is asked of the store; the wait that counts is for the disk. A receipt means that
//! the message is durable for every recipient.

pub mod limits;
mod permission;
mod quota;
mod recipients;
mod request;
mod validate;

use std::sync::Arc;

use protocol::{Body, FieldProblem, MessageFields, MessageId, TenantId, Time};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    clock,
    control::{Control, ControlError, QuotaReached},
    identity::Caller,
    store::{Directory, Outgoing, Store, StoreError},
    template::{Rendered, Templates},
};

pub(crate) use permission::is_reserved_type;
pub use permission::{RESERVED_TYPES, Refusal};
pub use request::{Recipient, SendRequest};

use quota::Charge;
use recipients::{Addressed, Known, Recipients, Rights};
use request::given;
use validate::Checked;

/// The priority where nothing says otherwise.
pub const DEFAULT_PRIORITY: u8 = 5;

/// The message type where nothing says otherwise (seed 003 §3.3).
pub const DEFAULT_TYPE: &str = "text";

/// A message was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// Its id.
    pub message_id: MessageId,
    /// `accepted`.
    pub status: &'static str,
    /// How many receive it, each counted once, members of channels and roles as of now; none for
    /// `recipient_type` `all`, because nobody counts the tenant's inboxes for it.
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
    /// The tenant has used up what it may send today.
    #[error(transparent)]
    Quota(#[from] QuotaReached),
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
    directory: Arc<dyn Directory>,
    control: Arc<Control>,
    templates: Arc<Templates>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    /// A sender into this store, for recipients that this directory knows.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        directory: Arc<dyn Directory>,
        control: Arc<Control>,
        templates: Arc<Templates>,
    ) -> Self {
        Self { store, directory, control, templates }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, caller: &Caller, request: SendRequest) -> Result<Receipt, SendError> {
        let (tenant, now) = (caller.tenant(), clock::now());
        let checked = self.check(&tenant, request, now)?;
        let known = Known::default();
        let prepared = self.prepare(&mut Rights::new(caller), &known, checked, now).await?;
        let Prepared { outgoing, receipt, charge } = prepared;
        self.store.append(vec![outgoing].into()).await?;
        charge.keep();
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
        let (tenant, now) = (caller.tenant(), clock::now());
        let check = |request: Result<SendRequest, _>| {
            self.check(&tenant, request.map_err(SendError::Invalid)?, now)
        };
        let checked: Vec<_> = requests.into_iter().map(check).collect();
        let names = checked.iter().filter_map(|checked| checked.as_ref().ok());
        let known = Known::of_batch(&*self.directory, &tenant, names).await?;
        let mut rights = Rights::new(caller);
        let (mut good, mut charges) = (Vec::with_capacity(checked.len()), Vec::new());
        let mut results = Vec::with_capacity(checked.len());
        for checked in checked {
            let prepared = match checked {
                Ok(checked) => self.prepare(&mut rights, &known, checked, now).await,
                Err(error) => Err(error),
            };
            results.push(prepared.map(|Prepared { outgoing, receipt, charge }| {
                good.push(outgoing);
                charges.push(charge);
                receipt
            }));
        }
        if !good.is_empty() {
            self.store.append(good.into()).await?;
            charges.into_iter().for_each(Charge::keep);
        }
        Ok(results)
    }

    /// Whether the request says something that can be sent.
    fn check(
        &self,
        tenant: &TenantId,
        request: SendRequest,
        now: Time,
    ) -> Result<Checked, SendError> {
        let template = match given(request.template_id.as_ref()) {
            Some(id) => self.templates.get(tenant, id).map_err(SendError::Templates)?,
            None => None,
        };
        Checked::new(request, template, now).map_err(SendError::Invalid)
    }

    /// Everything but the store.
    async fn prepare(
        &self,
        rights: &mut Rights<'_>,
        known: &Known,
        checked: Checked,
        now: Time,
    ) -> Result<Prepared, SendError> {
        let tenant = rights.caller().tenant();
        let recipients = Recipients { directory: &*self.directory, tenant: &tenant, known };
        let Addressed { caller, audience, count, channel_id } =
            recipients.resolve(rights, &checked).await?;
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
        let sender_info = permission::sender(&caller, &checked);
        let Checked { request, template, message_type, on_behalf_of, priority, .. } = checked;
        let id = message_id();
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
            edited_at: None,
            expire_at: request.expire_at,
            collapse_key: non_empty(request.collapse_key),
            metadata: request.metadata.unwrap_or_default(),
            attachments: request.attachments.unwrap_or_default(),
            actions: request.actions.unwrap_or(rendered.actions),
        };
        // The last thing that can refuse: what was refused for something else uses nothing.
        let charge = Charge::take(&self.control, &tenant, count.unwrap_or(1))?;
        let body = Arc::new(Body::new(&fields));
        let receipt = Receipt { message_id: id, status: "accepted", recipients: count };
        let sender = caller.sender_key();
        let outgoing = Outgoing { tenant, sender, audience, body, scheduled_at: None };
        Ok(Prepared { outgoing, receipt, charge })
    }
}

/// A message that waits to be stored.
struct Prepared {
    outgoing: Outgoing,
    receipt: Receipt,
    charge: Charge,
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

#[cfg(test)]
mod tests;
