//! Backups, made while who asked waits, and streamed (seed 003 §5).
//!
//! What can be refused is refused before the first byte; later the connection breaks off, so that a cut backup never
//! looks whole. The file is read as fast as it is taken, by a thread that waits for the client at most [`STALL`].

pub(super) mod docs;

use std::{io, time::Duration};

use axum::{
    body::Body,
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use protocol::UserId;
use secrecy::SecretString;
use tokio::{runtime::Handle, sync::mpsc};

use super::{
    ApiState,
    caller::{Admin, User},
    error::ApiError,
    query::{Parameters, TENANT_ID},
    shape::{Field, Form, Shape, formed, may},
    trace::Trace,
    users::{known, user_id},
};
use crate::{
    backup::{Key, Kind, Made, Outer, PIECE, Place, Since, Wanted},
    store::InboxKey,
};

/// How long a backup waits for its client to take a piece before it is given up.
const STALL: Duration = Duration::from_secs(60);

/// Who the backup is encrypted for: an age recipient or a passphrase. A header, because URLs are logged.
pub(super) const KEY: HeaderName = HeaderName::from_static("x-backup-key");

pub(super) const MEDIA: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A flag of a query.
pub(super) const FLAG: Shape = Shape::Word(&["true", "false"]);

const TYPE: Field = may(
    "type",
    Shape::Word(&["full", "messages", "incremental"]),
    "What is in it: everything of the inbox (`full`, unless said), only what its messages say (`messages`), or what \
     changed after `since` (`incremental`).",
);

const SINCE: Field = may(
    "since",
    formed(Form::Line, 1, 64),
    "Of an incremental backup: a position (`head` of the backup before; exact), or an RFC 3339 time.",
);

const COMPRESS: Field = may(
    "compress",
    FLAG,
    "With gzip, as `Content-Encoding` unless it is encrypted; `true` unless said.",
);

const ENCRYPT: Field = may(
    "encrypt",
    FLAG,
    "In the age format, for `X-Backup-Key` or else `BACKUP_ENCRYPTION_KEY`; `false` unless said.",
);

pub(super) const DATABASE: &[Field] = &[TYPE, SINCE, COMPRESS, ENCRYPT];
pub(super) const MESSAGES: &[Field] = &[COMPRESS, ENCRYPT];
pub(super) const DATABASE_OF: &[Field] = &[TENANT_ID, TYPE, SINCE, COMPRESS, ENCRYPT];
pub(super) const MESSAGES_OF: &[Field] = &[TENANT_ID, COMPRESS, ENCRYPT];

/// What [`FLAG`] may be.
pub(super) const FLAGS: [(&str, bool); 2] = [("true", true), ("false", false)];

/// What a query asks for; `any` where it says what is in it.
fn wanted(parameters: &mut Parameters, any: bool) -> Wanted {
    if !any {
        return Wanted::Messages;
    }
    let kind = parameters.word("type", &Kind::WORDS);
    let given = parameters.text("since");
    wanted_of(kind, given.as_deref(), |path, problem| parameters.say(path, problem))
}

/// The same of its parts; `say` hears what is wrong.
pub(super) fn wanted_of(
    kind: Option<Kind>,
    given: Option<&str>,
    mut say: impl FnMut(&str, String),
) -> Wanted {
    let since = given.map(str::parse::<Since>).transpose();
    let since = since.unwrap_or_else(|error| {
        say("since", format!("must be a position or a time: it {error}"));
        None
    });
    match (kind.unwrap_or(Kind::Full), since) {
        (Kind::Incremental, Some(since)) => Wanted::Incremental(since),
        (Kind::Incremental, None) => {
            if given.is_none() {
                say("since", "is needed with type=incremental".to_owned());
            }
            Wanted::Full
        }
        (kind, since) => {
            if since.is_some() {
                say("since", "goes with type=incremental only".to_owned());
            }
            if kind == Kind::Messages { Wanted::Messages } else { Wanted::Full }
        }
    }
}

/// What is to be around it.
fn outer(
    state: &ApiState,
    parameters: &mut Parameters,
    headers: &HeaderMap,
) -> Result<Outer, ApiError> {
    let compress = parameters.word("compress", &FLAGS).unwrap_or(true);
    let encrypt = parameters.word("encrypt", &FLAGS).unwrap_or(false);
    let (key, _) = key_of(state, encrypt, headers, |path, problem| parameters.say(path, problem))?;
    Ok(Outer { compress, key })
}

/// Whom it is encrypted for, and whether the request says it itself.
pub(super) fn key_of(
    state: &ApiState,
    encrypt: bool,
    headers: &HeaderMap,
    mut say: impl FnMut(&str, String),
) -> Result<(Option<Key>, bool), ApiError> {
    let given = match headers.get(KEY).map(HeaderValue::to_str) {
        None => None,
        Some(Ok(text)) => Some(SecretString::from(text.to_owned())),
        Some(Err(_)) => return Err(ApiError::field("X-Backup-Key", "must be printable ASCII")),
    };
    let key = match (encrypt, given) {
        (false, None) => None,
        (false, Some(_)) => {
            // Nobody may believe that what comes is encrypted.
            say("encrypt", "must be true where there is an X-Backup-Key".to_owned());
            None
        }
        (true, Some(text)) => match Key::parse(&text) {
            Ok(key) => Some(key),
            Err(error) => return Err(ApiError::field("X-Backup-Key", error.to_string())),
        },
        (true, None) => {
            let key = state.0.backups.key.clone();
            if key.is_none() {
                let problem = "needs an X-Backup-Key: no BACKUP_ENCRYPTION_KEY is set";
                say("encrypt", problem.to_owned());
            }
            return Ok((key, false));
        }
    };
    let own = key.is_some();
    Ok((key, own))
}

/// `Content-Disposition` of a user's backup (seed 003 §5.3).
pub(super) fn disposition(user: &UserId, suffix: &str) -> HeaderValue {
    fn plain(byte: &u8) -> bool {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
    }
    let id = user.as_str();
    let text = if id.as_bytes().iter().all(plain) {
        format!("attachment; filename=backup_{id}.db{suffix}")
    } else {
        // RFC 6266: the name in UTF-8, and one for who does not read it.
        let ascii: String =
            id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let escaped = id.bytes().fold(String::new(), |mut text, byte| {
            match plain(&byte) {
                true => text.push(char::from(byte)),
                false => text.push_str(&format!("%{byte:02X}")),
            }
            text
        });
        format!(
            "attachment; filename=\"backup_{ascii}.db{suffix}\"; filename*=UTF-8''backup_{escaped}.db{suffix}"
        )
    };
    HeaderValue::try_from(text).expect("nothing but printable ASCII")
}

/// The connection is to be broken off, so that what is missing is noticed.
#[derive(Debug, thiserror::Error)]
#[error("the backup was broken off")]
struct BrokenOff;

/// Hands pieces to a client, from a thread that may wait.
pub(super) struct Pieces {
    to: mpsc::Sender<Option<Bytes>>,
    runtime: Handle,
    piece: Vec<u8>,
}

impl Pieces {
    fn give(&mut self, piece: Option<Bytes>) -> io::Result<()> {
        let sent = self.runtime.block_on(self.to.send_timeout(piece, STALL));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// The rest, and that it was the last.
    fn end(mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.piece);
        self.give(Some(rest.into()))?;
        self.give(None)
    }
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() >= PIECE {
            let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
            self.give(Some(piece.into()))?;
        }
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends a backup that was made.
fn body(place: Place, made: Made, outer: Outer) -> Body {
    streamed(move |pieces| made.write(&outer, pieces), || place.leave_whole())
}

/// Sends what is written by a thread that may wait, and does `whole` once all of it has gone.
pub(super) fn streamed(
    write: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static,
    whole: impl FnOnce() + Send + 'static,
) -> Body {
    let (to, receiver) = mpsc::channel::<Option<Bytes>>(1);
    let mut pieces = Pieces { to, runtime: Handle::current(), piece: Vec::new() };
    tokio::task::spawn_blocking(move || match write(&mut pieces).and_then(|()| pieces.end()) {
        Ok(()) => whole(),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "a backup was broken off");
        }
    });
    Body::from_stream(futures_util::stream::unfold(Some(receiver), |receiver| async {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Some(piece)) => Some((Ok(piece), Some(receiver))),
            Some(None) => None,
            None => Some((Err(BrokenOff), None)),
        }
    }))
}

async fn answer(
    state: &ApiState,
    inbox: &InboxKey,
    wanted: Wanted,
    outer: Outer,
) -> Result<Response, ApiError> {
    let place = state.0.backups.area.begin(inbox)?;
    let made = place.make(&*state.0.store, wanted).await?;
    let (bytes, plain) = (made.plain_bytes(), !outer.compress && outer.key.is_none());
    let zipped = outer.compress && outer.key.is_none();
    let suffix = if zipped { "" } else { outer.suffix() };
    let disposition = disposition(&inbox.user, suffix);
    let head = made.line().head;
    let mut response = body(place, made, outer).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, MEDIA);
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    // For the next incremental one, without opening the file.
    headers.insert(HeaderName::from_static("x-backup-head"), head.0.into());
    if plain {
        headers.insert(header::CONTENT_LENGTH, bytes.into());
    }
    if zipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

async fn own(
    state: &ApiState,
    user: &User,
    mut parameters: Parameters,
    headers: &HeaderMap,
    any: bool,
) -> Result<Response, ApiError> {
    let wanted = wanted(&mut parameters, any);
    let outer = outer(state, &mut parameters, headers)?;
    parameters.finish()?;
    let response = answer(state, &user.0.inbox, wanted, outer).await?;
    tracing::info!(target: "security", event = "backup_downloaded", by = user.0.user().as_str());
    Ok(response)
}

async fn of_user(
    state: &ApiState,
    admin: &Admin,
    trace: &Trace,
    mut parameters: Parameters,
    headers: &HeaderMap,
    id: Result<Path<String>, PathRejection>,
    any: bool,
) -> Result<Response, ApiError> {
    let tenant = admin.asked_tenant(&mut parameters).unwrap_or_default();
    let wanted = wanted(&mut parameters, any);
    let outer = outer(state, &mut parameters, headers)?;
    parameters.finish()?;
    let inbox = InboxKey::new(tenant, user_id(id)?);
    known(state, &inbox).await?;
    let response = answer(state, &inbox, wanted, outer).await?;
    trace.of_tenant(&inbox.tenant);
    Ok(response)
}

/// `GET /backup/database`
pub(super) async fn database(
    State(state): State<ApiState>,
    user: User,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    own(&state, &user, Parameters::new(&uri, DATABASE)?, &headers, true).await
}

/// `GET /backup/messages`
pub(super) async fn messages(
    State(state): State<ApiState>,
    user: User,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    own(&state, &user, Parameters::new(&uri, MESSAGES)?, &headers, false).await
}

/// `GET /admin/users/{id}/backup/database`
pub(super) async fn database_of(
    State(state): State<ApiState>,
    admin: Admin,
    trace: Trace,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    of_user(&state, &admin, &trace, Parameters::new(&uri, DATABASE_OF)?, &headers, id, true).await
}

/// `GET /admin/users/{id}/backup/messages`
pub(super) async fn messages_of(
    State(state): State<ApiState>,
    admin: Admin,
    trace: Trace,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    of_user(&state, &admin, &trace, Parameters::new(&uri, MESSAGES_OF)?, &headers, id, false).await
}
