//! Backups of everybody, and jobs of all users, for admins.

pub(super) mod docs;

use std::sync::Arc;

use axum::{
    extract::{OriginalUri, State},
    response::Response,
};
use protocol::{Seq, TenantId, Time, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ApiState,
    answer::Answer,
    body::{Decoded, Payload},
    caller::Admin,
    error::ApiError,
    query::{Parameters, TENANT_ID},
    shape::{Field, Shape, may},
    tenants::AboveTenants,
    trace::Trace,
};
use crate::{
    backup::{Record, RunRecord, UnderWay},
    store::Storage,
};

/// Most runs that are listed: the latest. Schedules and `BACKUP_KEEP_*` that keep more are not meant to be read.
const LISTED_MAX: usize = 500;

const JOBS: &[Field] = &[TENANT_ID];

/// Backups of everybody.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BackupRunList")]
struct List {
    /// Where they are kept.
    place: String,
    /// When the next is due by the schedule; null without one, and on a node that makes none.
    next_at: Option<Time>,
    /// The one that this node makes now.
    under_way: Option<UnderWay>,
    /// Why the latest that this node tried to make could not be made; null where one could since.
    failure: Option<Failure>,
    /// Those that are kept, the latest first.
    runs: Vec<RunRecord>,
}

/// A run that could not be made.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BackupRunFailure")]
struct Failure {
    /// When.
    at: Time,
    /// Why.
    error: String,
}

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRun {
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

impl Payload for NewRun {
    const SHAPE: Shape = Shape::Object(&[may(
        "type",
        Shape::Word(&["full", "incremental"]),
        "`full`: every inbox from its beginning. `incremental`, unless said: what changed since the one before, where \
         there is one that is younger than `BACKUP_FULL_EVERY`.",
    )]);
    const OPTIONAL: bool = true;
}

/// A user's backup job.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AdminBackupJob")]
struct ShownJob {
    /// Its id.
    job_id: String,
    /// Of which tenant.
    tenant_id: TenantId,
    /// Whose.
    user_id: UserId,
    /// What is in it.
    #[serde(rename = "type")]
    #[schemars(regex(pattern = "^(full|messages|incremental)$"))]
    kind: String,
    /// `queued`, `running`, `done`, `failed` or `expired`.
    #[schemars(regex(pattern = "^(queued|running|done|failed|expired)$"))]
    state: &'static str,
    /// When it was asked for.
    created_at: Time,
    /// When it was over.
    finished_at: Option<Time>,
    /// Until when its file is kept.
    expires_at: Option<Time>,
    /// Up to which position it has everything.
    head: Option<Seq>,
    /// Bytes of its file.
    bytes: Option<u64>,
    /// Why it failed.
    error: Option<String>,
}

impl From<Record> for ShownJob {
    fn from(record: Record) -> Self {
        let inbox = record.inbox();
        Self {
            kind: record.kind().to_owned(),
            tenant_id: inbox.tenant,
            user_id: inbox.user,
            job_id: record.id,
            state: record.state.word(),
            created_at: record.created_at,
            finished_at: record.finished_at,
            expires_at: record.expires_at,
            head: record.head,
            bytes: record.bytes,
            error: record.error,
        }
    }
}

/// Jobs of users.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AdminBackupJobList")]
struct JobList {
    /// The oldest first.
    jobs: Vec<ShownJob>,
}

/// `GET /admin/backups`
pub(super) async fn list(
    State(state): State<ApiState>,
    _: AboveTenants,
    answer: Answer,
) -> Result<Response, ApiError> {
    let runs = &state.0.backups.runs;
    let mut kept = runs.list().await?;
    kept.reverse();
    kept.truncate(LISTED_MAX);
    let now = runs.state();
    Ok(answer.success(&List {
        place: runs.place(),
        next_at: now.next_at,
        under_way: now.under_way,
        failure: now.failure.map(|(at, error)| Failure { at, error }),
        runs: kept,
    }))
}

/// `POST /admin/backups`
pub(super) async fn ask(
    State(state): State<ApiState>,
    _: AboveTenants,
    trace: Trace,
    answer: Answer,
    Decoded(NewRun { kind }): Decoded<NewRun>,
) -> Result<Response, ApiError> {
    let full = match kind.as_deref() {
        Some("full") => true,
        Some("incremental") | None => false,
        Some(_) => return Err(ApiError::field("type", "must be one of full, incremental")),
    };
    let store = Arc::clone(&state.0.store) as Arc<dyn Storage>;
    let begun = state.0.backups.runs.ask(store, full).await?;
    trace.after(&begun);
    Ok(answer.success(&begun))
}

/// `GET /admin/backups/jobs`
pub(super) async fn jobs(
    State(state): State<ApiState>,
    admin: Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, JOBS)?;
    let tenant = admin.asked_tenant(&mut parameters);
    parameters.finish()?;
    let all = state.0.backups.jobs.all().into_iter();
    let seen = all.filter(|job| tenant.as_ref().is_none_or(|tenant| job.inbox().tenant == *tenant));
    Ok(answer.success(&JobList { jobs: seen.map(ShownJob::from).collect() }))
}
