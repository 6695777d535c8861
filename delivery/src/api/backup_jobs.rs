//! Backups that are made in the background, and downloads of them that go on where they broke off (seed 003 §5.4).
//!
//! A file never changes under its `ETag`, so that a range of it is a range of the same bytes (RFC 9110 §14), and a
//! cache may keep it as long as its link is good.

pub(super) mod docs;

use std::time::{Duration, Instant};

use axum::{
    body::Body,
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use protocol::{FieldProblem, Seq, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ApiState,
    answer::Answer,
    backups::{MEDIA, disposition, key_of, streamed, wanted_of},
    body::{Decoded, Payload},
    caller::User,
    error::ApiError,
    query::Parameters,
    shape::{Field, Form, Shape, formed, may, must},
};
use crate::{
    backup::{Download, JobError, Jobs, Kind, NewJob, Outer, Record, copy},
    clock,
};

/// Longest wait for a job to be over.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How often who waits looks whether the node goes down.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Longest name of a file, in bytes: ours have 42.
const NAME_BYTES_MAX: usize = 64;

const WAIT: &[Field] = &[may(
    "wait",
    formed(Form::Pattern("^([12]?[0-9]|30)s$"), 2, 3),
    "Answer when the job is over, or after so long: `0s` to `30s`.",
)];

const LINK: &[Field] = &[
    must(
        "expires",
        Shape::Whole(0, i64::MAX as u64),
        "Until when the link is good: seconds since 1970.",
    ),
    must("signature", formed(Form::Line, 1, 64), "What the server signed it with."),
];

/// What a backup is asked to be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBackupJob {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    since: Option<String>,
    #[serde(default)]
    compress: Option<bool>,
    #[serde(default)]
    encrypt: Option<bool>,
}

impl Payload for NewBackupJob {
    const SHAPE: Shape = Shape::Object(&[
        may(
            "type",
            Shape::Word(&["full", "messages", "incremental"]),
            "What is in it; `full` unless said.",
        ),
        may(
            "since",
            formed(Form::Line, 1, 64),
            "Of an incremental backup: a position as a text (`head` of the backup before; exact), or an RFC 3339 time.",
        ),
        may("compress", Shape::Flag, "With gzip; true unless said."),
        may(
            "encrypt",
            Shape::Flag,
            "In the age format, for `X-Backup-Key` or else `BACKUP_ENCRYPTION_KEY`; false unless said.",
        ),
    ]);
    const OPTIONAL: bool = true;
}

/// A backup that is made in the background.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BackupJob")]
struct Shown {
    /// Its id.
    job_id: String,
    /// What is in it.
    #[serde(rename = "type")]
    #[schemars(regex(pattern = "^(full|messages|incremental)$"))]
    kind: String,
    /// Since when an incremental one is.
    since: Option<String>,
    /// With gzip.
    compress: bool,
    /// In the age format.
    encrypt: bool,
    /// `queued`, `running`, `done`, `failed`; `expired` where its file is gone again.
    #[schemars(regex(pattern = "^(queued|running|done|failed|expired)$"))]
    state: &'static str,
    /// When it was asked for.
    created_at: Time,
    /// When it was over.
    finished_at: Option<Time>,
    /// Until when its file is kept; of one that is over, it is told as long again.
    expires_at: Option<Time>,
    /// Up to which position it has everything: `since` of the next incremental one.
    head: Option<Seq>,
    /// Bytes of its file.
    bytes: Option<u64>,
    /// SHA-256 of its file, which is also its `ETag`.
    sha256: Option<String>,
    /// Where its file can be had without a token until `expires_at`, on this server; null unless it is done.
    download_url: Option<String>,
    /// Why it failed.
    error: Option<String>,
}

impl Shown {
    fn new(jobs: &Jobs, record: Record) -> Self {
        let query = jobs.link_query(&record);
        let name = record.file_name();
        Self {
            kind: record.kind().to_owned(),
            encrypt: record.is_encrypted(),
            download_url: query.map(|query| format!("/api/v3/backup/files/{name}?{query}")),
            job_id: record.id,
            since: record.since,
            compress: record.compress,
            state: record.state.word(),
            created_at: record.created_at,
            finished_at: record.finished_at,
            expires_at: record.expires_at,
            head: record.head,
            bytes: record.bytes,
            sha256: record.sha256,
            error: record.error,
        }
    }
}

/// A user's jobs.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BackupJobList")]
struct List {
    /// The oldest first.
    jobs: Vec<Shown>,
}

/// A job is gone.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeletedBackupJob")]
struct Deleted {
    /// Which.
    job_id: String,
}

type JobPath = Result<Path<String>, PathRejection>;

/// A job of who asks, that was made for the one who has this name now.
async fn job(state: &ApiState, user: &User, id: JobPath) -> Result<Record, ApiError> {
    let Path(id) = id.map_err(|_| JobError::NotFound)?;
    let record = state.0.backups.jobs.get(&user.0.inbox, &id)?;
    current(state, &record).await?;
    Ok(record)
}

async fn current(state: &ApiState, record: &Record) -> Result<(), ApiError> {
    // A user who was deleted on another node, perhaps a moment ago.
    let is_current = Jobs::is_current(record, &*state.0.store).await?;
    if is_current { Ok(()) } else { Err(JobError::NotFound.into()) }
}

/// `POST /backup/jobs`
pub(super) async fn create(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
    headers: HeaderMap,
    Decoded(new): Decoded<NewBackupJob>,
) -> Result<Response, ApiError> {
    let NewBackupJob { kind, since, compress, encrypt } = new;
    let mut problems = Vec::new();
    let mut say = |path: &str, problem: String| {
        problems.push(FieldProblem { path: path.to_owned(), problem });
    };
    let word = kind.as_deref();
    let kind = Kind::WORDS.into_iter().find(|(known, _)| word == Some(known)).map(|(_, kind)| kind);
    if word.is_some() && kind.is_none() {
        say("type", "must be one of full, messages, incremental".to_owned());
    }
    let wanted = wanted_of(kind, since.as_deref(), &mut say);
    let (key, own_key) = key_of(&state, encrypt.unwrap_or(false), &headers, &mut say)?;
    if !problems.is_empty() {
        return Err(ApiError::Invalid(problems));
    }
    let jobs = &state.0.backups.jobs;
    let known = state.0.directory.user(&user.inbox).await?.ok_or(ApiError::NoUser)?;
    let outer = Outer { compress: compress.unwrap_or(true), key };
    let new = NewJob { wanted, outer, own_key };
    let record = jobs.create(&user.inbox, known.created_at, new).await?;
    tracing::info!(target: "security", event = "backup_asked_for", by = user.user().as_str());
    Ok(answer.success(&Shown::new(jobs, record)))
}

/// `GET /backup/jobs`
pub(super) async fn list(
    State(state): State<ApiState>,
    user: User,
    answer: Answer,
) -> Result<Response, ApiError> {
    let jobs = &state.0.backups.jobs;
    let mut shown = Vec::new();
    for record in jobs.list(&user.0.inbox) {
        if Jobs::is_current(&record, &*state.0.store).await? {
            shown.push(Shown::new(jobs, record));
        }
    }
    Ok(answer.success(&List { jobs: shown }))
}

/// `GET /backup/jobs/{id}`
pub(super) async fn get(
    State(state): State<ApiState>,
    user: User,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: JobPath,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, WAIT)?;
    let wait = parameters.text("wait").and_then(|text| {
        let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse().ok());
        let wait = seconds.map(Duration::from_secs).filter(|wait| *wait <= WAIT_MAX);
        if wait.is_none() {
            parameters.say("wait", "must be 0s to 30s");
        }
        wait
    });
    parameters.finish()?;
    let mut record = job(&state, &user, id).await?;
    let jobs = &state.0.backups.jobs;
    let until = Instant::now() + wait.unwrap_or_default();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let draining = state.0.draining.load(std::sync::atomic::Ordering::Relaxed);
        if record.state.is_over() || left.is_zero() || draining {
            return Ok(answer.success(&Shown::new(jobs, record)));
        }
        let inbox = &user.0.inbox;
        let is_over = || jobs.get(inbox, &record.id).map_or(true, |record| record.state.is_over());
        jobs.changed_within(left.min(LOOK_EVERY), is_over).await;
        record = jobs.get(inbox, &record.id)?;
    }
}

/// `DELETE /backup/jobs/{id}`
pub(super) async fn remove(
    State(state): State<ApiState>,
    user: User,
    answer: Answer,
    id: JobPath,
) -> Result<Response, ApiError> {
    let record = job(&state, &user, id).await?;
    state.0.backups.jobs.remove(&user.0.inbox, &record.id).await?;
    Ok(answer.success(&Deleted { job_id: record.id }))
}

/// `GET /backup/jobs/{id}/file`
pub(super) async fn file(
    State(state): State<ApiState>,
    user: User,
    method: Method,
    headers: HeaderMap,
    id: JobPath,
) -> Result<Response, ApiError> {
    let record = job(&state, &user, id).await?;
    let download = state.0.backups.jobs.open(record).await?;
    let cache = HeaderValue::from_static("private, no-store");
    let response = send(download, &method, &headers, cache)?;
    tracing::info!(target: "security", event = "backup_downloaded", by = user.0.user().as_str());
    Ok(response)
}

/// `GET /backup/files/{name}`
pub(super) async fn linked(
    State(state): State<ApiState>,
    method: Method,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
    name: JobPath,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, LINK)?;
    let expires: Option<i64> = parameters.parsed("expires", "seconds since 1970");
    let signature = parameters.text("signature");
    if expires.is_none() && uri.query().is_none_or(|query| !query.contains("expires=")) {
        parameters.say("expires", "is missing");
    }
    if signature.is_none() {
        parameters.say("signature", "is missing");
    }
    parameters.finish()?;
    let (expires, signature) = (expires.unwrap_or_default(), signature.unwrap_or_default());
    let Path(name) = name.map_err(|_| JobError::NotFound)?;
    if name.len() > NAME_BYTES_MAX {
        return Err(JobError::Forged.into());
    }
    let jobs = &state.0.backups.jobs;
    jobs.check_link(&name, expires, &signature)?;
    let record = jobs.by_name(&name)?;
    current(&state, &record).await?;
    let left = expires.saturating_sub(clock::now().millis().div_euclid(1_000)).max(0);
    let cache = HeaderValue::try_from(format!("public, immutable, max-age={left}"));
    let by = record.inbox().user;
    let download = jobs.open(record).await?;
    let response = send(download, &method, &headers, cache.expect("printable ASCII"))?;
    tracing::info!(target: "security", event = "backup_link_used", user = by.as_str());
    Ok(response)
}

/// The bytes that are asked for, as first and length: all of them where no range is meant, or one of a file that was
/// another.
fn range(headers: &HeaderMap, etag: &str, bytes: u64) -> Result<Option<(u64, u64)>, JobError> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(asked) = text(header::RANGE) else { return Ok(None) };
    if headers.contains_key(header::IF_RANGE) && text(header::IF_RANGE) != Some(etag) {
        return Ok(None);
    }
    // What is not one range of bytes counts as not said (RFC 9110 §14.2).
    let Some((first, last)) = asked.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Ok(None);
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let (first, end) = match (number(first), number(last)) {
        (Some(first), None) if last.is_empty() => (first, bytes),
        (Some(first), Some(last)) if first <= last => (first, bytes.min(last.saturating_add(1))),
        (None, Some(count)) if first.is_empty() => {
            // The last none of them.
            (if count == 0 { bytes } else { bytes.saturating_sub(count) }, bytes)
        }
        _ => return Ok(None),
    };
    if first >= bytes { Err(JobError::Range(bytes)) } else { Ok(Some((first, end - first))) }
}

/// Sends a file, or the part of it that is asked for.
fn send(
    download: Download,
    method: &Method,
    asked: &HeaderMap,
    cache: HeaderValue,
) -> Result<Response, ApiError> {
    let Download { record, mut file, bytes, sha256, place } = download;
    let etag = format!("\"{sha256}\"");
    let range = range(asked, &etag, bytes)?;
    let (first, length) = range.unwrap_or((0, bytes));
    let body = if *method == Method::HEAD {
        Body::empty()
    } else {
        streamed(
            move |pieces| {
                std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(first))?;
                copy(file, length, pieces)
            },
            move || drop(place),
        )
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, MEDIA);
    headers.insert(header::CONTENT_DISPOSITION, disposition(&record.inbox().user, record.suffix()));
    headers.insert(header::CACHE_CONTROL, cache);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::ETAG, HeaderValue::try_from(etag).expect("hexadecimal digits"));
    if range.is_some() {
        let said = format!("bytes {first}-{}/{bytes}", first + length - 1);
        headers.insert(header::CONTENT_RANGE, HeaderValue::try_from(said).expect("digits"));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range_header: &'static str, if_range: Option<&'static str>) -> Option<(u64, u64)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static(range_header));
        if let Some(if_range) = if_range {
            headers.insert(header::IF_RANGE, HeaderValue::from_static(if_range));
        }
        match range(&headers, "\"e\"", 100) {
            Ok(range) => range,
            Err(_) => Some((u64::MAX, 0)),
        }
    }

    #[test]
    fn ranges_are_what_the_rfc_says() {
        let outside = Some((u64::MAX, 0));
        for (header, range) in [
            ("bytes=0-", Some((0, 100))),
            ("bytes=10-19", Some((10, 10))),
            ("bytes=90-1000", Some((90, 10))),
            ("bytes=-7", Some((93, 7))),
            ("bytes=-1000", Some((0, 100))),
            ("bytes=100-", outside),
            ("bytes=99999999999999999999-", outside),
            ("bytes=-0", outside),
            ("bytes=9-3", None),
            ("bytes=a-", None),
            ("bytes=-", None),
            ("bytes=0-1,5-6", None),
            ("lines=1-2", None),
        ] {
            assert_eq!(asked(header, None), range, "{header}");
        }
        assert_eq!(asked("bytes=5-", Some("\"e\"")), Some((5, 95)));
        // Another file, a weak tag, a date: all of it.
        for other in ["\"f\"", "W/\"e\"", "Sat, 01 Jan 2000 00:00:00 GMT"] {
            assert_eq!(asked("bytes=5-", Some(other)), None);
        }
    }
}
