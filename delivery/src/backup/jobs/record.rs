//! What is kept of a job on disk, and how.
//!
//! ```text
//! {DATABASE_BACKUP_PATH}/.jobs/{slot}/lock              held by the process whose jobs these are
//!                                    /{job}/job.json    what it is and how it stands
//!                                          /file        the backup, once it is whole
//! ```
//! Each file is written beside its place, synced and renamed: what a killed process leaves is whole or not there.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use protocol::{Seq, TenantId, Time, UserId};
use serde::{Deserialize, Serialize};

use super::super::{BackupError, Kind, Since, Wanted};
use crate::{InboxKey, store::single::own_dir};

/// What the file of a job is called in its folder.
pub(super) const FILE: &str = "file";

/// What it is called until it is whole.
pub(super) const NEW_FILE: &str = "file.new";

const RECORD: &str = "job.json";
const NEW_RECORD: &str = "job.json.new";
const LOCK: &str = "lock";

/// What the name of a job's folder begins with that is on its way out.
const GONE: &str = ".gone-";

/// Version of `job.json`.
const FORMAT: u32 = 1;

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits for its turn.
    Queued,
    /// It is being made.
    Running,
    /// Its file can be downloaded.
    Done,
    /// It could not be made.
    Failed,
    /// Its file was kept as long as files are, and is gone.
    Expired,
}

impl State {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing more comes of it by itself but its end.
    pub(crate) const fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// For whom a job's file is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sealed {
    Nobody,
    /// For `BACKUP_ENCRYPTION_KEY`.
    Configured,
    /// For a key that came with the request, and is on no disk.
    Given,
}

/// A job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// Its id.
    pub id: String,
    pub(super) tenant: TenantId,
    pub(super) user: UserId,
    /// Since when the user was known: whoever comes by the same name after a deletion has no part in it.
    pub(super) user_since: Time,
    #[serde(rename = "type")]
    kind: String,
    /// Since when an incremental one is.
    pub since: Option<String>,
    /// Compressed with gzip.
    pub compress: bool,
    pub(super) sealed: Sealed,
    /// How it stands.
    pub state: State,
    /// When it was asked for.
    pub created_at: Time,
    /// When it was over.
    pub finished_at: Option<Time>,
    /// Until when its file is kept.
    pub expires_at: Option<Time>,
    /// Up to which position of the inbox the backup is.
    pub head: Option<Seq>,
    /// Bytes of its file.
    pub bytes: Option<u64>,
    /// SHA-256 of its file, in hexadecimal digits.
    pub sha256: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Record {
    pub(super) fn new(
        inbox: &InboxKey,
        user_since: Time,
        wanted: Wanted,
        compress: bool,
        sealed: Sealed,
    ) -> Self {
        let since = match wanted {
            Wanted::Incremental(Since::Seq(seq)) => Some(seq.0.to_string()),
            Wanted::Incremental(Since::Time(time)) => Some(time.to_string()),
            Wanted::Full | Wanted::Messages => None,
        };
        Self {
            format: FORMAT,
            id: uuid::Uuid::now_v7().simple().to_string(),
            tenant: inbox.tenant.clone(),
            user: inbox.user.clone(),
            user_since,
            kind: wanted.kind().word().to_owned(),
            since,
            compress,
            sealed,
            state: State::Queued,
            created_at: crate::clock::now(),
            finished_at: None,
            expires_at: None,
            head: None,
            bytes: None,
            sha256: None,
            error: None,
        }
    }

    /// Whose.
    pub(crate) fn inbox(&self) -> InboxKey {
        InboxKey::new(self.tenant.clone(), self.user.clone())
    }

    pub(super) fn is_of(&self, inbox: &InboxKey) -> bool {
        self.tenant == inbox.tenant && self.user == inbox.user
    }

    /// What is to be in it; none for a record that somebody else wrote.
    pub(super) fn wanted(&self) -> Option<Wanted> {
        let (_, kind) = Kind::WORDS.into_iter().find(|(word, _)| *word == self.kind)?;
        Some(match kind {
            Kind::Full => Wanted::Full,
            Kind::Messages => Wanted::Messages,
            Kind::Incremental => Wanted::Incremental(self.since.as_deref()?.parse().ok()?),
        })
    }

    /// The word of what is in it.
    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether its file is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.sealed != Sealed::Nobody
    }

    /// What its file's name ends with, behind `.db`.
    pub(crate) const fn suffix(&self) -> &'static str {
        match (self.compress, self.sealed) {
            (false, Sealed::Nobody) => "",
            (true, Sealed::Nobody) => ".gz",
            (false, _) => ".age",
            (true, _) => ".gz.age",
        }
    }

    /// What its file is called in a link.
    pub(crate) fn file_name(&self) -> String {
        format!("{}.db{}", self.id, self.suffix())
    }

    /// As it is at a moment: a file that was to be gone is.
    pub(super) fn at(&self, now: Time) -> Self {
        let mut record = self.clone();
        if record.state == State::Done && record.expires_at.is_some_and(|end| end <= now) {
            record.state = State::Expired;
        }
        record
    }
}

/// The jobs of a process that is gone, or of this one.
pub(super) struct Slot {
    pub(super) path: PathBuf,
    _lock: File,
}

/// Jobs with their folders, as a process left them.
pub(super) type Left = Vec<(Record, PathBuf)>;

/// All slots below a folder that no other process holds, with the jobs in them. One of its own is made where there
/// is none.
pub(super) fn adopt(folder: &Path, known: &[PathBuf]) -> io::Result<(Vec<Slot>, Left)> {
    own_dir(folder)?;
    let (mut slots, mut jobs) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !known.contains(&path)
            && let Some(slot) = hold(&path)?
        {
            jobs.extend(read(&path)?);
            slots.push(slot);
        }
    }
    if slots.is_empty() && known.is_empty() {
        let path = folder.join(uuid::Uuid::now_v7().simple().to_string());
        own_dir(&path)?;
        slots.extend(hold(&path)?);
    }
    Ok((slots, jobs))
}

fn hold(path: &Path) -> io::Result<Option<Slot>> {
    if !path.is_dir() {
        return Ok(None);
    }
    let lock = File::options().write(true).create(true).truncate(false).open(path.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(Slot { path: path.to_owned(), _lock: lock })),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// The jobs of a slot. What is not whole goes: nobody was told of it, or it was on its way out.
fn read(slot: &Path) -> io::Result<Left> {
    let mut jobs = Vec::new();
    for entry in fs::read_dir(slot)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let named = |record: &Record| path.file_name().is_some_and(|name| name == &*record.id);
        let record = fs::read(path.join(RECORD)).ok();
        let record = record.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
        match record.filter(|record| record.format == FORMAT && named(record)) {
            Some(record) => jobs.push((record, path)),
            None => fs::remove_dir_all(&path)?,
        }
    }
    Ok(jobs)
}

/// Makes a job's folder.
pub(super) fn create(folder: &Path, record: &Record) -> io::Result<()> {
    own_dir(folder)?;
    write(folder, record).inspect_err(|_| {
        // What is left of it takes room, and is found at the next start.
        let _ = fs::remove_dir_all(folder);
    })
}

/// Writes how a job stands.
pub(super) fn write(folder: &Path, record: &Record) -> io::Result<()> {
    let bytes = serde_json::to_vec(record).map_err(io::Error::other)?;
    let new = folder.join(NEW_RECORD);
    let mut file = private(&new)?;
    let written = file.write_all(&bytes).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&new, folder.join(RECORD))) {
        // A full disk needs what the first half took.
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

/// A new file that nobody else may read.
pub(in crate::backup) fn private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Removes a file that may not be there.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a job's folder. By another name first: whoever is writing into it finds nothing any more, and a kill in the
/// middle leaves no half of a job.
pub(super) fn discard(folder: &Path) -> io::Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let gone = folder.with_file_name(format!("{GONE}{name}"));
    match fs::rename(folder, &gone) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    fs::remove_dir_all(gone)
}

/// What a failed job says of why.
pub(super) fn sentence(error: &BackupError) -> String {
    match error {
        BackupError::Since { .. }
        | BackupError::Running
        | BackupError::TooLarge(_)
        | BackupError::Kept(_)
        | BackupError::Full => error.to_string(),
        BackupError::Store(_) => "messages could not be read just then; ask again".to_owned(),
        BackupError::Content(error) => error.to_string(),
        BackupError::Left | BackupError::Io(_) | BackupError::Sqlite(_) => {
            "something went wrong here; the log says what".to_owned()
        }
    }
}
