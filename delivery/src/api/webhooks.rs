//! Webhooks: services manage their own, admins everybody's. The handlers are the same; who asks
//! decides whose webhooks they are about, and another service's are not there.

pub(super) mod docs;
mod owner;

use std::time::Duration;

use axum::{
    extract::{OriginalUri, State},
    response::Response,
};
use protocol::ServiceId;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    ApiState,
    answer::Answer,
    aside::aside,
    body::{Decoded, Payload},
    caller::Admin,
    error::ApiError,
    query::{ANY_TENANT, PageMeta, Parameters, SIZE},
    shape::{Field, Form, Shape, formed, may, must},
};
use crate::webhook::{
    Actor, DESCRIPTION_BYTES_MAX, DeadLetter, Delivery, DeliveryStatus, EVENT_WORDS, EventKind,
    NewWebhook, Page, SECRET_OVERLAP, SECRET_OVERLAP_MAX, URL_BYTES_MAX, Webhook, WebhookError,
    Webhooks,
};

use self::owner::{EventPath, Owned, Owner, WebhookPath};
pub(crate) use self::owner::{Named, OfService, Own};

/// URLs as most people write them: a host by name, and nothing that would have to be escaped. What
/// this says is taken for sure.
const URL_PATTERN: &str = r"^https://([a-z0-9]{1,24}(-[a-z0-9]{1,24})?\.){0,3}[a-z]{2,24}(:[1-9][0-9]{0,3})?(/[A-Za-z0-9._~!$&()*+,;=:@/-]*(\?[A-Za-z0-9._~!$&()*+,;=:@/?-]*)?)?$";

impl Payload for NewWebhook {
    const SHAPE: Shape = Shape::Object(&[
        must(
            "url",
            formed(Form::Pattern(URL_PATTERN), 1, URL_BYTES_MAX),
            "Where to: an absolute URL with `https://`, without user name, password and fragment. Other \
             characters than these are escaped, an address must be a public one, and `http://` is for \
             networks in `WEBHOOK_ALLOWED_NETWORKS`.",
        ),
        must(
            "events",
            Shape::List(&Shape::Word(&EVENT_WORDS), 1, EventKind::WORDS.len()),
            "What to tell, each kind once; or `*` alone for all, later ones too.",
        ),
        may("description", formed(Form::Line, 0, DESCRIPTION_BYTES_MAX), "What it is for."),
    ]);
}

/// The body of a rotation; may be left out.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rotation {
    /// How long the older secrets sign on.
    overlap_seconds: Option<u64>,
}

impl Payload for Rotation {
    const SHAPE: Shape = Shape::Object(&[may(
        "overlap_seconds",
        Shape::Whole(0, SECRET_OVERLAP_MAX.as_secs()),
        "How long the older secrets sign on: a day unless said, 0 for one that leaked.",
    )]);
    const OPTIONAL: bool = true;
}

/// Webhooks of a service.
#[derive(Serialize, JsonSchema)]
struct WebhookList {
    /// All of them, oldest first.
    webhooks: Vec<Webhook>,
    /// How many there are.
    total: usize,
}

/// A webhook with its new secret.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WebhookWithSecret")]
struct WithSecret<'a> {
    #[serde(flatten)]
    webhook: &'a Webhook,
    /// What signatures are made with: `whsec_` and the key in base64. Shown here and never again.
    secret: &'a str,
}

/// Events and how they stand with a webhook.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WebhookDeliveryList")]
struct DeliveryList {
    /// The page, newest first.
    deliveries: Vec<Delivery>,
    /// How many there are of this status.
    total: u64,
}

/// Dead letters of all webhooks.
#[derive(Serialize, JsonSchema)]
struct DeadLetterList {
    /// The page, newest first.
    dead_letters: Vec<DeadLetter>,
    /// How many there are.
    total: u64,
}

/// The file is read and written on a thread that may wait for the disk.
async fn blocking<T: Send + 'static>(
    state: &ApiState,
    work: impl FnOnce(&Webhooks) -> Result<T, WebhookError> + Send + 'static,
) -> Result<T, ApiError> {
    let webhooks = state.0.webhooks.clone();
    aside(move || work(&webhooks)).await
}

/// Most digits of a cursor: rows count up from 1, and fewer than that have been seen.
const CURSOR_DIGITS_MAX: usize = 18;

const CURSOR: Field = may(
    "cursor",
    formed(Form::Pattern("^[0-9]{0,18}$"), 0, CURSOR_DIGITS_MAX),
    "Where the page begins: `meta.next_cursor` of the page before.",
);

const DEAD_LETTERS_QUERY: &[Field] = &[ANY_TENANT, CURSOR, SIZE];

const DELIVERIES_QUERY: &[Field] = &[
    may("status", Shape::Word(DeliveryStatus::WORDS), "Only of this status; all unless said."),
    CURSOR,
    SIZE,
];

/// Where a page begins, and how long it is.
fn paging(parameters: &mut Parameters) -> (Option<i64>, usize) {
    let before = parameters.text("cursor").and_then(|text| {
        let is_ours =
            text.len() <= CURSOR_DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit());
        let before = text.parse().ok().filter(|_| is_ours);
        if before.is_none() {
            parameters.say("cursor", "must be the next_cursor of a page of this list");
        }
        before
    });
    (before, parameters.size())
}

fn meta<T>(page: &Page<T>, size: usize) -> PageMeta {
    PageMeta {
        page: None,
        size,
        total_pages: Some(page.total.div_ceil(size as u64)),
        next_cursor: page.next.map(|id| id.to_string()),
    }
}

/// `GET …/webhooks`
pub(super) async fn list<O: Owner>(
    State(state): State<ApiState>,
    owner: O,
    answer: Answer,
) -> Result<Response, ApiError> {
    let Owned { service, .. } = owner.into();
    let webhooks = blocking(&state, move |webhooks| webhooks.list(&service)).await?;
    Ok(answer.success(&WebhookList { total: webhooks.len(), webhooks }))
}

/// `POST …/webhooks`
pub(super) async fn create<O: Owner>(
    State(state): State<ApiState>,
    owner: O,
    answer: Answer,
    Decoded(new): Decoded<NewWebhook>,
) -> Result<Response, ApiError> {
    let owned = owner.into();
    let (tenant, service) = (owned.tenant.clone(), owned.service.clone());
    let made = blocking(&state, move |webhooks| webhooks.create(&tenant, &service, new)).await?;
    owned.log("webhook_created", &made.0);
    Ok(with_secret(answer, &made))
}

fn with_secret(answer: Answer, (webhook, secret): &(Webhook, SecretString)) -> Response {
    answer.success(&WithSecret { webhook, secret: secret.expose_secret() })
}

/// `GET …/webhooks/{webhook_id}`
pub(super) async fn get<O: Owner>(
    State(state): State<ApiState>,
    owner: O,
    answer: Answer,
    Named(WebhookPath { webhook_id }): Named<WebhookPath>,
) -> Result<Response, ApiError> {
    let Owned { service, .. } = owner.into();
    let webhook = blocking(&state, move |webhooks| webhooks.get(&service, &webhook_id)).await?;
    Ok(answer.success(&webhook))
}

/// `PUT …/webhooks/{webhook_id}`
pub(super) async fn update<O: Owner>(
    State(state): State<ApiState>,
    owner: O,
    answer: Answer,
    Named(WebhookPath { webhook_id }): Named<WebhookPath>,
    Decoded(new): Decoded<NewWebhook>,
) -> Result<Response, ApiError> {
    let change = move |webhooks: &Webhooks, service: &ServiceId, _| {
        webhooks.update(service, &webhook_id, new)
    };
    changed(&state, owner, answer, "webhook_updated", change).await
}

/// `DELETE …/webhooks/{webhook_id}`
pub(super) async fn remove<O: Owner>(
    State(state): State<ApiState>,
    owner: O,
    answer: Answer,
    Named(WebhookPath { webhook_id }): Named<WebhookPath>,
) -> Result<Response, ApiError> {
    let change =
        move |webhooks: &Webhooks, service: &ServiceId, _| webhooks.delete(service, &webhook_id);
    changed(&state, owner, answer, "webhook_deleted", change).await
}

/// `POST …/webhooks/{webhook_id}/enable`
pub(super) async fn enable<O: Owner>(
    State(state): State<ApiState>,
    owner: O,
    answer: Answer,
    Named(WebhookPath { webhook_id }): Named<WebhookPath>,
) -> Result<Response, ApiError> {
    let change = move |webhooks: &Webhooks, service: &ServiceId, by| {
        webhooks.enable(service, &webhook_id, by)
    };
    changed(&state, owner, answer, "webhook_enabled", change).await
}

/// `POST …/webhooks/{webhook_id}/disable`
pub(super) async fn disable<O: Owner>(
    State(state): State<ApiState>,
    owner: O,
    answer: Answer,
    Named(WebhookPath { webhook_id }): Named<WebhookPath>,
) -> Result<Response, ApiError> {
    let change = move |webhooks: &Webhooks, service: &ServiceId, by| {
        webhooks.disable(service, &webhook_id, by)
    };
    changed(&state, owner, answer, "webhook_disabled", change).await
}

async fn changed<O: Owner>(
    state: &ApiState,
    owner: O,
    answer: Answer,
    event: &'static str,
    change: impl FnOnce(&Webhooks, &ServiceId, Actor) -> Result<Webhook, WebhookError> + Send + 'static,
) -> Result<Response, ApiError> {
    let owned = owner.into();
    let (service, by) = (owned.service.clone(), owned.actor());
    let webhook = blocking(state, move |webhooks| change(webhooks, &service, by)).await?;
    owned.log(event, &webhook);
    Ok(answer.success(&webhook))
}

/// `POST …/webhooks/{webhook_id}/secret`
pub(super) async fn rotate<O: Owner>(
    State(state): State<ApiState>,
    owner: O,
    answer: Answer,
    Named(WebhookPath { webhook_id }): Named<WebhookPath>,
    Decoded(rotation): Decoded<Rotation>,
) -> Result<Response, ApiError> {
    let overlap = rotation.overlap_seconds.map_or(SECRET_OVERLAP, Duration::from_secs);
    if overlap > SECRET_OVERLAP_MAX {
        let problem = format!("must be 0 to {}", SECRET_OVERLAP_MAX.as_secs());
        return Err(ApiError::field("overlap_seconds", problem));
    }
    let owned = owner.into();
    let service = owned.service.clone();
    let rotated =
        blocking(&state, move |webhooks| webhooks.rotate_secret(&service, &webhook_id, overlap))
            .await?;
    owned.log("webhook_secret_rotated", &rotated.0);
    Ok(with_secret(answer, &rotated))
}

/// `POST …/webhooks/{webhook_id}/test`
pub(super) async fn test<O: Owner>(
    State(state): State<ApiState>,
    owner: O,
    answer: Answer,
    Named(WebhookPath { webhook_id }): Named<WebhookPath>,
) -> Result<Response, ApiError> {
    let Owned { service, .. } = owner.into();
    Ok(answer.success(&state.0.webhooks.test(&service, &webhook_id).await?))
}

/// `GET …/webhooks/{webhook_id}/deliveries`
pub(super) async fn deliveries<O: Owner>(
    State(state): State<ApiState>,
    owner: O,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    Named(WebhookPath { webhook_id }): Named<WebhookPath>,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, DELIVERIES_QUERY)?;
    let words = DeliveryStatus::ALL.iter().map(|status| (status.as_str(), *status));
    let status = parameters.word("status", &words.collect::<Vec<_>>());
    let (before, size) = paging(&mut parameters);
    parameters.finish()?;
    let Owned { service, .. } = owner.into();
    let page = blocking(&state, move |webhooks| {
        webhooks.deliveries(&service, &webhook_id, status, before, size)
    })
    .await?;
    let meta = meta(&page, size);
    Ok(answer.page(&DeliveryList { total: page.total, deliveries: page.items }, &meta))
}

/// `POST …/webhooks/{webhook_id}/deliveries/{event_id}/redeliver`
pub(super) async fn redeliver<O: Owner>(
    State(state): State<ApiState>,
    owner: O,
    answer: Answer,
    Named(WebhookPath { webhook_id }): Named<WebhookPath>,
    Named(EventPath { event_id }): Named<EventPath>,
) -> Result<Response, ApiError> {
    let Owned { service, .. } = owner.into();
    let delivery =
        blocking(&state, move |webhooks| webhooks.redeliver(&service, &webhook_id, &event_id))
            .await?;
    Ok(answer.success(&delivery))
}

/// `GET /admin/dead-letters`
pub(super) async fn dead_letters(
    State(state): State<ApiState>,
    admin: Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, DEAD_LETTERS_QUERY)?;
    let tenant = admin.asked_tenant(&mut parameters);
    let (before, size) = paging(&mut parameters);
    parameters.finish()?;
    let page =
        blocking(&state, move |webhooks| webhooks.dead_letters(tenant.as_ref(), before, size))
            .await?;
    let meta = meta(&page, size);
    Ok(answer.page(&DeadLetterList { total: page.total, dead_letters: page.items }, &meta))
}
