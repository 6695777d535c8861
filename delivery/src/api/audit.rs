//! The audit log, for admins (contract §9).

pub(super) mod docs;

use std::sync::Arc;

use axum::{
    extract::{OriginalUri, State},
    response::Response,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ApiState,
    answer::Answer,
    aside::aside,
    caller::Admin,
    error::ApiError,
    query::{ANY_TENANT, PageMeta, Parameters, SIZE},
    shape::{Field, Form, Shape, formed, may, some_text},
    tenants::AboveTenants,
};
use crate::audit::{Audit, Entry, Filter, Hash};

/// Longest word that is looked for, in bytes: targets are the longest.
const WORD_BYTES_MAX: usize = 1_024;

/// Most digits of a place: fewer than that have been written.
const PLACE_DIGITS_MAX: usize = 18;

const PLACE: Form = Form::Pattern("^[0-9]{0,18}$");

/// The query of the list.
const QUERY: &[Field] = &[
    ANY_TENANT,
    may("actor", some_text(WORD_BYTES_MAX), "By whoever is called so, or has this id."),
    may(
        "action",
        some_text(WORD_BYTES_MAX),
        "What was done: an operation's id, such as `services_update`.",
    ),
    may(
        "target",
        some_text(WORD_BYTES_MAX),
        "To what: a path below `/api/v3/admin/`, such as `services/shop`; what is below it is found too.",
    ),
    may("since", Shape::Time, "Done at this moment or later."),
    may("until", Shape::Time, "Done before this moment."),
    may(
        "cursor",
        formed(PLACE, 0, PLACE_DIGITS_MAX),
        "Where the page begins: `meta.next_cursor` of the page before.",
    ),
    SIZE,
];

/// The query of a look at the chain.
const VERIFY_QUERY: &[Field] = &[
    may(
        "seq",
        formed(PLACE, 0, PLACE_DIGITS_MAX),
        "The place of an entry whose hash was kept elsewhere, as the security log has it. With `hash`.",
    ),
    may(
        "hash",
        formed(Form::Pattern("^([0-9a-fA-F]{64})?$"), 0, 64),
        "The hash that was kept. Without it, a log that was cut off or written anew as a whole looks whole.",
    ),
];

/// Entries of the audit log.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditList")]
struct List {
    /// The page, latest first.
    entries: Vec<Entry>,
}

/// The log is read on a thread that may wait for the database.
async fn blocking<T: Send + 'static>(
    state: &ApiState,
    work: impl FnOnce(&Audit) -> Result<T, crate::control::ControlError> + Send + 'static,
) -> Result<T, ApiError> {
    let audit = Arc::clone(&state.0.audit);
    aside(move || work(&audit)).await
}

/// A place in the log.
fn place(parameters: &mut Parameters, name: &'static str) -> Option<u64> {
    let text = parameters.text(name)?;
    let digits = text.len() <= PLACE_DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit());
    let place = text.parse().ok().filter(|_| digits);
    if place.is_none() {
        parameters.say(name, "must be a number of at most 18 digits");
    }
    place
}

/// A word to look for.
fn word(parameters: &mut Parameters, name: &'static str) -> Option<String> {
    let text = parameters.text(name)?;
    if text.len() > WORD_BYTES_MAX || text.contains('\0') {
        parameters.say(name, format!("must have at most {WORD_BYTES_MAX} bytes, none of them 0"));
    }
    Some(text)
}

/// `GET /admin/audit`
pub(super) async fn list(
    State(state): State<ApiState>,
    admin: Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, QUERY)?;
    let filter = Filter {
        tenant: admin.asked_tenant(&mut parameters),
        actor: word(&mut parameters, "actor"),
        action: word(&mut parameters, "action"),
        target: word(&mut parameters, "target"),
        since: parameters.time("since"),
        until: parameters.time("until"),
    };
    let before = place(&mut parameters, "cursor");
    let size = parameters.size();
    parameters.finish()?;
    let mut entries = blocking(&state, move |audit| audit.list(&filter, before, size + 1)).await?;
    let more = entries.len() > size;
    entries.truncate(size);
    let next = entries.last().filter(|_| more).map(|entry| entry.seq.to_string());
    let meta = PageMeta { page: None, size, total_pages: None, next_cursor: next };
    Ok(answer.page(&List { entries }, &meta))
}

/// `GET /admin/audit/verify`
pub(super) async fn verify(
    State(state): State<ApiState>,
    _: AboveTenants,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, VERIFY_QUERY)?;
    let seq = place(&mut parameters, "seq");
    let hash: Option<Hash> = parameters.parsed("hash", "64 hexadecimal digits");
    if seq.is_some() != hash.is_some() {
        parameters.say("hash", "goes with seq");
    }
    parameters.finish()?;
    let verified = blocking(&state, move |audit| audit.verify(seq.zip(hash))).await?;
    Ok(answer.success(&verified))
}
