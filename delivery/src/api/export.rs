//! All that is kept of a user, as lines of JSON: written while it is read, a page at a time, however much it is.
//!
//! A task of its own reads ahead by one page, so that a client which reads slowly holds that much memory and one
//! that does not read at all gives its place up after [`STALL`].

pub(super) mod docs;
mod mask;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, header};
use metrics::{Counter, Gauge, Recorder};
use parking_lot::Mutex;
use protocol::{ChannelId, MessageFields, MessageId, RoleId, TenantId, Time, UserId};
use rustc_hash::FxHashSet;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    ApiState,
    backups::{FLAG, FLAGS},
    caller::{Admin, User},
    error::{ApiError, message},
    preferences,
    query::{Parameters, TENANT_ID},
    shape::{Field, may},
    trace::Trace,
    users::{known, user_id},
};
use crate::{
    account::{Linked, Profile, Session},
    clock,
    metrics::Metric,
    store::{
        Audience, Group, InboxKey, ListPosition, ListQuery, Receipt, SenderKey, SentMessage,
        SentState, Sort, StatusFilter, UserRecord,
    },
};

/// Most exports that run at a time on a node. Each reads through an inbox and holds at most three pages; more
/// would take the disk from those who wait for their messages.
const RUNNING_MAX: usize = 8;

/// How long an export waits for its client to take a page before it is given up.
const STALL: Duration = Duration::from_secs(60);

/// Messages of a page: fewer where they are large, more where they are small, since each page is a question that
/// also counts the whole list. A page of 50 that turn out to have the largest content is 12.5 MiB, once.
const MESSAGES_PAGE: (usize, usize) = (5, 50);

/// How large a page of messages should be, in bytes: from a quarter of this to this.
const PAGE_BYTES: usize = 1 << 20;

/// Sent messages of a page: each may name 10,000 recipients.
const SENT_PAGE: usize = 20;

/// Receipts of a page.
const RECEIPTS_PAGE: usize = 200;

/// Version of what the lines look like.
const FORMAT: u32 = 1;

const MEDIA: HeaderValue = HeaderValue::from_static("application/x-ndjson");

pub(super) const RUNNING: Metric =
    Metric::gauge("pushhub_exports_running", "", "Exports of users that run now.");
pub(super) const EXPORTS: Metric = Metric::counter(
    "pushhub_exports_total",
    "result",
    "Exports of users: whole, broken off by an error or a client, or refused because too many ran.",
);

/// What an admin may ask for.
const QUERY: &[Field] = &[
    TENANT_ID,
    may(
        "masked",
        FLAG,
        "Without names, e-mail addresses and telephone numbers: fields of those are `***`, and so is what looks like one in any other text; `false` unless said.",
    ),
];

/// Those that run.
pub(crate) struct Exports {
    of: Mutex<FxHashSet<InboxKey>>,
    running: Gauge,
    whole: Counter,
    broken: Counter,
    refused: Counter,
}

impl Exports {
    pub(super) fn new(recorder: &dyn Recorder) -> Arc<Self> {
        let result = |result| EXPORTS.to_counter(recorder, &[("result", result)]);
        Arc::new(Self {
            of: Mutex::default(),
            running: RUNNING.to_gauge(recorder, &[]),
            whole: result("whole"),
            broken: result("broken"),
            refused: result("refused"),
        })
    }

    /// A place for an export of a user, who has one at a time.
    fn begin(self: &Arc<Self>, inbox: &InboxKey) -> Result<Place, ApiError> {
        let mut of = self.of.lock();
        if of.len() >= RUNNING_MAX || !of.insert(inbox.clone()) {
            self.refused.increment(1);
            return Err(ApiError::ExportsRunning);
        }
        self.running.increment(1.0);
        Ok(Place { exports: Arc::clone(self), inbox: inbox.clone(), whole: false })
    }
}

/// An export that runs.
struct Place {
    exports: Arc<Exports>,
    inbox: InboxKey,
    whole: bool,
}

impl Place {
    fn leave_whole(mut self) {
        self.whole = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Exports { of, running, whole, broken, .. } = &*self.exports;
        of.lock().remove(&self.inbox);
        running.decrement(1.0);
        if self.whole { whole.increment(1) } else { broken.increment(1) }
    }
}

/// A line.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Line<'a> {
    Export {
        format: u32,
        tenant_id: &'a TenantId,
        user_id: &'a UserId,
        at: Time,
    },
    Profile(ShownProfile<'a>),
    Preferences(preferences::Shown),
    Directory(&'a UserRecord),
    Identity(&'a Linked),
    Session(ShownSession<'a>),
    Membership(Membership<'a>),
    Message(super::error::Shown),
    Sent(Sent<'a>),
    Receipt(SentReceipt<'a>),
    /// The last one: without it something is missing.
    End {
        lines: u64,
    },
}

#[derive(Serialize)]
struct ShownProfile<'a> {
    username: &'a str,
    email: &'a str,
    name: &'a str,
    avatar: &'a str,
    locale: &'a str,
    time_zone: &'a str,
    attributes: &'a serde_json::Map<String, serde_json::Value>,
    created_at: Option<Time>,
    updated_at: Option<Time>,
}

impl<'a> ShownProfile<'a> {
    fn new(profile: &'a Profile) -> Self {
        // All of it, so that what is added is not forgotten here.
        let Profile {
            username,
            email,
            name,
            avatar,
            locale,
            time_zone,
            attributes,
            created_at,
            updated_at,
        } = profile;
        Self {
            username,
            email,
            name,
            avatar,
            locale,
            time_zone,
            attributes,
            created_at: *created_at,
            updated_at: *updated_at,
        }
    }
}

#[derive(Serialize)]
struct ShownSession<'a> {
    session_id: &'a str,
    device_id: &'a str,
    device_name: &'a str,
    provider: &'a str,
    address: &'a str,
    user_agent: &'a str,
    created_at: Time,
    last_seen_at: Time,
    expires_at: Time,
}

impl<'a> ShownSession<'a> {
    fn new(session: &'a Session) -> Self {
        let Session {
            id,
            inbox: _,
            device_id,
            device_name,
            provider,
            address,
            user_agent,
            created_at,
            last_seen_at,
            expires_at,
        } = session;
        Self {
            session_id: id,
            device_id: device_id.as_str(),
            device_name,
            provider,
            address,
            user_agent,
            created_at: *created_at,
            last_seen_at: *last_seen_at,
            expires_at: *expires_at,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Membership<'a> {
    ChannelId(&'a ChannelId),
    Role(&'a RoleId),
}

impl<'a> Membership<'a> {
    const fn of(group: &'a Group) -> Self {
        match group {
            Group::Channel(id) => Self::ChannelId(id),
            Group::Role(id) => Self::Role(id),
        }
    }
}

#[derive(Serialize)]
struct Sent<'a> {
    message_id: &'a MessageId,
    state: SentState,
    accepted_at: Time,
    scheduled_at: Option<Time>,
    sent_at: Option<Time>,
    /// To everybody; then the other two are empty.
    everyone: bool,
    users: &'a [UserId],
    groups: Vec<Membership<'a>>,
    /// What it says; null where nobody has it any more.
    message: Option<MessageFields>,
}

#[derive(Serialize)]
struct SentReceipt<'a> {
    message_id: &'a MessageId,
    #[serde(flatten)]
    receipt: &'a Receipt,
}

/// What comes next.
enum Step {
    Person,
    /// From there on, so many.
    Messages(ListPosition, usize),
    Sent(Option<MessageId>),
    /// Of the first of these, after a recipient; then the next page of what was sent.
    Receipts(VecDeque<SentMessage>, Option<UserId>, Option<MessageId>),
    End,
}

struct Export {
    state: ApiState,
    inbox: InboxKey,
    step: Option<Step>,
    lines: u64,
    piece: Vec<u8>,
    /// Without names, addresses and telephone numbers.
    masked: bool,
}

impl Export {
    fn line(&mut self, line: &Line<'_>) {
        if self.masked {
            let mut value = serde_json::to_value(line).expect("lines have string keys");
            mask::mask(&mut value);
            serde_json::to_writer(&mut self.piece, &value).expect("lines have string keys");
        } else {
            serde_json::to_writer(&mut self.piece, line).expect("lines have string keys");
        }
        self.piece.push(b'\n');
        self.lines += 1;
    }

    /// The next lines, about a page of them; none after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let Some(step) = self.step.take() else { return Ok(None) };
        self.step = match step {
            Step::Person => Some(self.person().await?),
            Step::Messages(at, size) => Some(self.messages(at, size).await?),
            Step::Sent(after) => Some(self.sent(after.as_ref()).await?),
            Step::Receipts(sent, after, next) => Some(self.receipts(sent, after, next).await?),
            Step::End => {
                self.line(&Line::End { lines: self.lines });
                None
            }
        };
        Ok(Some(std::mem::take(&mut self.piece).into()))
    }

    async fn person(&mut self) -> Result<Step, ApiError> {
        let (state, inbox) = (self.state.clone(), self.inbox.clone());
        let (accounts, directory) = (&state.0.accounts, &state.0.directory);
        let (tenant_id, user_id) = (&inbox.tenant, &inbox.user);
        self.line(&Line::Export { format: FORMAT, tenant_id, user_id, at: clock::now() });
        let (profile, identities) = accounts.profile(&inbox).await?;
        self.line(&Line::Profile(ShownProfile::new(&profile)));
        let preferences = accounts.preferences(&inbox).await?;
        self.line(&Line::Preferences(preferences.into()));
        if let Some(record) = directory.user(&inbox).await? {
            self.line(&Line::Directory(&record));
        }
        for identity in &identities {
            self.line(&Line::Identity(identity));
        }
        for session in &accounts.sessions(&inbox).await? {
            self.line(&Line::Session(ShownSession::new(session)));
        }
        for group in &directory.groups_of(&inbox).await? {
            self.line(&Line::Membership(Membership::of(group)));
        }
        Ok(Step::Messages(ListPosition::default(), MESSAGES_PAGE.0))
    }

    async fn messages(&mut self, at: ListPosition, size: usize) -> Result<Step, ApiError> {
        let query = ListQuery {
            status: StatusFilter::All,
            recalled: true,
            sort: Sort::Oldest,
            at,
            size,
            ..ListQuery::default()
        };
        let page = self.state.0.store.list(&self.inbox, query).await?;
        for stored in &page.messages {
            self.line(&Line::Message(message(stored)?));
        }
        let size = match self.piece.len() {
            large if large > PAGE_BYTES => size / 2,
            small if small < PAGE_BYTES / 4 => size * 2,
            _ => size,
        };
        let size = size.clamp(MESSAGES_PAGE.0, MESSAGES_PAGE.1);
        Ok(match page.messages.last().filter(|_| page.more) {
            Some(last) => Step::Messages(ListPosition::After(last.state.seq), size),
            None => Step::Sent(None),
        })
    }

    async fn sent(&mut self, after: Option<&MessageId>) -> Result<Step, ApiError> {
        let InboxKey { tenant, user } = &self.inbox;
        let sender = SenderKey::User(user.clone());
        let page = self.state.0.store.sent_by(tenant, &sender, after, SENT_PAGE).await?;
        Ok(Self::receipts_or(page.messages.into(), None, page.next))
    }

    /// The receipts of the first of these messages, after a recipient; where there is none, what was sent besides.
    fn receipts_or(
        sent: VecDeque<SentMessage>,
        after: Option<UserId>,
        next: Option<MessageId>,
    ) -> Step {
        match next {
            _ if !sent.is_empty() => Step::Receipts(sent, after, next),
            Some(next) => Step::Sent(Some(next)),
            None => Step::End,
        }
    }

    async fn receipts(
        &mut self,
        mut sent: VecDeque<SentMessage>,
        after: Option<UserId>,
        next: Option<MessageId>,
    ) -> Result<Step, ApiError> {
        let Some(first) = sent.front() else { return Ok(Self::receipts_or(sent, after, next)) };
        let (state, tenant) = (self.state.clone(), self.inbox.tenant.clone());
        let store = &state.0.store;
        if after.is_none() {
            let body = store.sent_body(&tenant, &first.id).await?;
            let (users, groups): (&[UserId], &[Group]) = match &first.audience {
                Audience::Everyone => (&[], &[]),
                Audience::Some { users, groups } => (users, groups),
            };
            self.line(&Line::Sent(Sent {
                message_id: &first.id,
                state: first.state,
                accepted_at: first.accepted_at,
                scheduled_at: first.scheduled_at,
                sent_at: first.sent_at,
                everyone: matches!(first.audience, Audience::Everyone),
                users,
                groups: groups.iter().map(Membership::of).collect(),
                message: body.map(|body| body.fields()).transpose()?,
            }));
        }
        let page = store.receipts(&tenant, &first.id, after, RECEIPTS_PAGE).await?;
        for receipt in &page.receipts {
            self.line(&Line::Receipt(SentReceipt { message_id: &first.id, receipt }));
        }
        let after = page.receipts.last().filter(|_| page.more).map(|last| last.user_id.clone());
        if after.is_none() {
            sent.pop_front();
        }
        Ok(Self::receipts_or(sent, after, next))
    }
}

/// The connection is to be broken off, so that what is missing is noticed.
#[derive(Debug, thiserror::Error)]
#[error("the export was broken off")]
struct BrokenOff;

/// Answers with an export. What can be refused at once is; later the connection breaks off.
async fn answer(state: &ApiState, inbox: InboxKey, masked: bool) -> Result<Response, ApiError> {
    let place = state.0.exports.begin(&inbox)?;
    let step = Some(Step::Person);
    let (state, piece) = (state.clone(), Vec::new());
    let mut export = Export { state, inbox, step, lines: 0, piece, masked };
    let first = export.next().await?;
    // None is the end.
    let (sender, receiver) = mpsc::channel::<Option<Bytes>>(1);
    tokio::spawn(async move {
        let mut piece = first;
        loop {
            let last = piece.is_none();
            if sender.send_timeout(piece, STALL).await.is_err() {
                return;
            }
            if last {
                return place.leave_whole();
            }
            piece = match export.next().await {
                Ok(piece) => piece,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    return tracing::warn!(error, "an export was broken off");
                }
            };
        }
    });
    let pieces = futures_util::stream::unfold(Some(receiver), |receiver| async {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Some(piece)) => Some((Ok(piece), Some(receiver))),
            Some(None) => None,
            None => Some((Err(BrokenOff), None)),
        }
    });
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, MEDIA);
    let disposition = HeaderValue::from_static("attachment; filename=\"export.ndjson\"");
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    Ok(response)
}

/// `GET /auth/export`
pub(super) async fn own(
    State(state): State<ApiState>,
    User(user): User,
) -> Result<Response, ApiError> {
    let response = answer(&state, user.inbox.clone(), false).await?;
    tracing::info!(target: "security", event = "user_exported", by = user.user().as_str());
    Ok(response)
}

/// `GET /admin/users/{id}/export`
pub(super) async fn of_user(
    State(state): State<ApiState>,
    admin: Admin,
    trace: Trace,
    OriginalUri(uri): OriginalUri,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, QUERY)?;
    let tenant = admin.asked_tenant(&mut parameters).unwrap_or_default();
    let masked = parameters.word("masked", &FLAGS).unwrap_or(false);
    parameters.finish()?;
    let inbox = InboxKey::new(tenant, user_id(id)?);
    known(&state, &inbox).await?;
    trace.of_tenant(&inbox.tenant);
    answer(&state, inbox, masked).await
}
