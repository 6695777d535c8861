//! The path of a message from a request to the store.
//!
//! ```text
//! validate -> permission -> render -> recipients -> Store::append -> receipt
//! ```
//! What names mean is asked of the store; the wait that counts is for the disk. A receipt means that
//! the message is durable for every recipient. The two halves are two calls, so that the answer to a
//! request with an `Idempotency-Key` can be stored with its messages: what it says is known before.
//!
//! [`EditRequest`] is what may be changed afterwards.

mod edit;
mod languages;
pub mod limits;
mod permission;
mod quota;
mod recipients;
mod request;
mod validate;

use std::{iter, sync::Arc};

use protocol::{Body, FieldProblem, MessageFields, MessageId, TenantId, Time};
use schemars::JsonSchema;
use serde::Serialize;
use smallvec::{SmallVec, smallvec};
use uuid::Uuid;

use crate::{
    control::{Control, ControlError, QuotaReached},
    identity::Caller,
    preference::Known as Preferred,
    spans::{self, KeyValue, TENANT},
    store::{Batch, Directory, Outgoing, Store, StoreError, StoredAnswer},
    template::{Rendered, Templates},
};

pub use edit::EditRequest;
pub use languages::InLanguage;
pub use permission::{RESERVED_TYPES, Refusal};
pub(crate) use permission::{check_write, is_reserved_type};
pub use request::{Recipient, SendRequest};

use languages::{Readers, by_language};
use quota::Charge;
use recipients::{Addressed, Known, Recipients, Rights};
use request::given;
use validate::Checked;

/// The priority where nothing says otherwise.
pub const DEFAULT_PRIORITY: u8 = 5;

/// The message type where nothing says otherwise (seed 003 §3.3).
pub const DEFAULT_TYPE: &str = "text";

/// What a sender is told of a message that was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Receipt {
    /// Its id; where it became several, that of the first recipient's.
    pub message_id: MessageId,
    /// `accepted`, or `scheduled` for one that waits for its time.
    pub status: &'static str,
    /// How many receive it, each counted once, members of channels and roles as of now; none for
    /// `recipient_type` `all`, because nobody counts the tenant's inboxes for it.
    pub recipients: Option<u64>,
    /// The messages it became, where its recipients read a template in different languages: each is one of
    /// its own, to be recalled or asked about by itself. Left out where it is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub messages: Vec<InLanguage>,
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
    Templates(#[source] Arc<ControlError>),
    /// The store could not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Messages that can be sent and wait to be stored.
pub struct Prepared<T> {
    items: Vec<Outgoing>,
    charges: Vec<Charge>,
    /// What their sender is told once they are stored.
    pub outcome: T,
}

impl<T> Prepared<T> {
    /// What will be stored.
    pub fn outgoing(&self) -> &[Outgoing] {
        &self.items
    }

    /// With another form of the outcome.
    pub fn map<U>(self, into: impl FnOnce(T) -> U) -> Prepared<U> {
        Prepared { items: self.items, charges: self.charges, outcome: into(self.outcome) }
    }
}

/// Sends. The only way from a request to the store.
pub struct Sender {
    store: Arc<dyn Store>,
    directory: Arc<dyn Directory>,
    control: Arc<Control>,
    templates: Arc<Templates>,
    preferred: Arc<Preferred>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    /// A sender into this store, for recipients that this directory knows and who speak what `preferred`
    /// says.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        directory: Arc<dyn Directory>,
        control: Arc<Control>,
        templates: Arc<Templates>,
        preferred: Arc<Preferred>,
    ) -> Self {
        Self { store, directory, control, templates, preferred }
    }

    /// Everything but the store, for one message.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn prepare(
        &self,
        caller: &Caller,
        request: SendRequest,
    ) -> Result<Prepared<Receipt>, SendError> {
        let (tenant, now) = (caller.tenant(), self.control.clock().now());
        let looked = self.look_for_templates(&tenant, [&request].into_iter()).await;
        let checked = self.check(&tenant, request, &looked, now)?;
        let known = Known::default();
        let one = self.prepare_one(&mut Rights::new(caller), &known, checked, now).await?;
        Ok(Prepared {
            items: one.outgoing.into_vec(),
            charges: vec![one.charge],
            outcome: one.receipt,
        })
    }

    /// As [`Sender::prepare`], for many. Each is accepted or refused by itself, in order; a request
    /// that could not even be read comes with its problems.
    ///
    /// # Errors
    /// [`StoreError`] where the directory cannot be asked.
    pub async fn prepare_batch(
        &self,
        caller: &Caller,
        requests: Vec<Result<SendRequest, Vec<FieldProblem>>>,
    ) -> Result<Prepared<Vec<Result<Receipt, SendError>>>, StoreError> {
        let (tenant, now) = (caller.tenant(), self.control.clock().now());
        let readable = requests.iter().filter_map(|request| request.as_ref().ok());
        let looked = self.look_for_templates(&tenant, readable).await;
        let check = |request: Result<SendRequest, _>| {
            self.check(&tenant, request.map_err(SendError::Invalid)?, &looked, now)
        };
        let checked: Vec<_> = requests.into_iter().map(check).collect();
        let names = checked.iter().filter_map(|checked| checked.as_ref().ok());
        let known = Known::of_batch(&*self.directory, &tenant, names).await?;
        let mut rights = Rights::new(caller);
        let (mut items, mut charges) = (Vec::with_capacity(checked.len()), Vec::new());
        let mut outcome = Vec::with_capacity(checked.len());
        for checked in checked {
            let prepared = match checked {
                Ok(checked) => self.prepare_one(&mut rights, &known, checked, now).await,
                Err(error) => Err(error),
            };
            outcome.push(prepared.map(|One { outgoing, receipt, charge }| {
                items.extend(outgoing);
                charges.push(charge);
                receipt
            }));
        }
        Ok(Prepared { items, charges, outcome })
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
        let Prepared { items, charges, outcome } = prepared;
        if !items.is_empty() {
            let attributes = || {
                let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let mut attributes = vec![
                    KeyValue::new("messaging.system", "pushhub"),
                    KeyValue::new("messaging.operation.name", "send"),
                    KeyValue::new("messaging.batch.message_count", count),
                ];
                let tenant = items.first().map(|item| item.tenant.as_str().to_owned());
                attributes.extend(tenant.map(|tenant| KeyValue::new(TENANT, tenant)));
                attributes
            };
            let attributes = spans::current().map(|_| attributes());
            let append = async { self.store.append(Batch { items, answer }).await };
            spans::within("store append", || attributes.unwrap_or_default(), append).await?;
            charges.into_iter().for_each(Charge::keep);
        }
        Ok(outcome)
    }

    /// Looks for those that are not known here: once, however many messages name them.
    async fn look_for_templates(
        &self,
        tenant: &TenantId,
        requests: impl Iterator<Item = &SendRequest>,
    ) -> Result<(), Arc<ControlError>> {
        let ids = requests.filter_map(|request| given(request.template_id.as_ref()));
        Ok(self.templates.look_for(tenant, ids).await?)
    }

    /// Whether the request says something that can be sent; `looked` is what came of looking for the
    /// templates.
    fn check(
        &self,
        tenant: &TenantId,
        request: SendRequest,
        looked: &Result<(), Arc<ControlError>>,
        now: Time,
    ) -> Result<Checked, SendError> {
        let template = given(request.template_id.as_ref());
        let template = match template.map(|id| self.templates.known(tenant, id)) {
            Some(None) => {
                looked.as_ref().map_err(|error| SendError::Templates(Arc::clone(error)))?;
                None
            }
            Some(known) => known,
            None => None,
        };
        Checked::new(request, template, now).map_err(SendError::Invalid)
    }

    async fn prepare_one(
        &self,
        rights: &mut Rights<'_>,
        known: &Known,
        checked: Checked,
        now: Time,
    ) -> Result<One, SendError> {
        let tenant = rights.caller().tenant();
        let recipients = Recipients { directory: &*self.directory, tenant: &tenant, known };
        let Addressed { caller, audience, count, channel_id } =
            recipients.resolve(rights, &checked).await?;
        let said = given(checked.request.locale.as_ref());
        let parts = match &checked.template {
            Some(template) if said.is_none() => {
                by_language(template, &self.preferred, &tenant, audience, count)
            }
            Some(_) | None => smallvec![Readers { audience, count, locale: said }],
        };
        let own_actions = checked.request.actions.is_some();
        let render = |part: Readers<'_>| {
            let rendered = match &checked.template {
                Some(template) => template
                    .render(
                        checked.request.variables.as_ref().unwrap_or(&serde_json::Map::new()),
                        part.locale,
                        !own_actions,
                    )
                    .map_err(SendError::Invalid)?,
                None => Rendered::default(),
            };
            Ok((part.audience, part.count, rendered))
        };
        let parts: SmallVec<[_; 1]> =
            parts.into_iter().map(render).collect::<Result<_, SendError>>()?;
        let sender_info = permission::sender(&caller, &checked);
        let Checked {
            request, template, message_type, on_behalf_of, priority, scheduled_at, ..
        } = checked;
        let fields = MessageFields {
            id: message_id(),
            channel_id,
            title: request.title.unwrap_or_default(),
            content: request.content.unwrap_or_default(),
            message_type,
            priority,
            sender: sender_info.id.clone(),
            sender_info: Some(sender_info),
            on_behalf_of,
            template_id: template.map(|template| template.source.id.clone()),
            // Of one that waits the store says it anew when it sends it: its age, for lists,
            // retention and statistics, counts from there.
            created_at: now,
            edited_at: None,
            expire_at: request.expire_at,
            collapse_key: non_empty(request.collapse_key),
            metadata: request.metadata.unwrap_or_default(),
            attachments: request.attachments.unwrap_or_default(),
            actions: request.actions.unwrap_or_default(),
        };
        // The last thing that can refuse: what was refused for something else uses nothing.
        let charge = Charge::take(&self.control, &tenant, count.unwrap_or(1))?;
        let status = if scheduled_at.is_some() { "scheduled" } else { "accepted" };
        let sender = caller.sender_key();
        let mut receipt = Receipt {
            message_id: fields.id.clone(),
            status,
            recipients: count,
            messages: Vec::new(),
        };
        let several = parts.len() > 1;
        let mut outgoing = SmallVec::with_capacity(parts.len());
        // All but the last are copies, and most are the last.
        let copies = iter::repeat_n(fields, parts.len());
        for (mut fields, (audience, count, rendered)) in copies.zip(parts) {
            if !outgoing.is_empty() {
                fields.id = message_id();
            }
            if fields.title.is_empty() {
                fields.title = rendered.title;
            }
            if fields.content.is_empty() {
                fields.content = rendered.content;
            }
            if !own_actions {
                fields.actions = rendered.actions;
            }
            if several {
                receipt.messages.push(InLanguage {
                    message_id: fields.id.clone(),
                    locale: rendered.locale,
                    recipients: count.unwrap_or_default(),
                });
            }
            let body = Arc::new(Body::new(&fields));
            let (tenant, sender) = (tenant.clone(), sender.clone());
            outgoing.push(Outgoing { tenant, sender, audience, body, scheduled_at });
        }
        Ok(One { outgoing, receipt, charge })
    }
}

/// A message that waits to be stored, in as many languages as it is read in.
struct One {
    outgoing: SmallVec<[Outgoing; 1]>,
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
