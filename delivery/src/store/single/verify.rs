//! Looks a storage folder through, also while a node serves it: each SQLite file for itself, and what each inbox counts
//! against its rows.
//!
//! Nothing is changed: files are opened for reading.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{hub_dir, layout, schema::VERSION};

/// How long a look waits for who has a file locked, in milliseconds: a checkpoint takes less.
const BUSY_TIMEOUT_MS: u32 = 5_000;

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub path: PathBuf,
    /// What, in words.
    pub what: String,
}

/// How much was looked through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// Inboxes.
    pub inboxes: u64,
    /// Their messages.
    pub messages: u64,
    /// SQLite files, those of inboxes too.
    pub files: u64,
    /// Files that are not what they should be.
    pub faults: u64,
}

/// Looks a folder through. `fault` is told of each file that is wrong, `done` of each inbox.
///
/// # Errors
/// Where the folder itself cannot be read, or is none of a node.
pub fn verify_folder(
    root: &Path,
    mut fault: impl FnMut(Fault),
    done: impl Fn(),
) -> io::Result<Verified> {
    let hub = hub_dir(root);
    if !hub.join("shared.db").is_file() {
        return Err(io::Error::other(format!(
            "{} is no storage folder of pushhub",
            root.display()
        )));
    }
    let mut verified = Verified::default();
    let mut note = |verified: &mut Verified, path: PathBuf, found: Result<u64, String>| {
        verified.files += 1;
        match found {
            Ok(messages) => verified.messages += messages,
            Err(what) => {
                verified.faults += 1;
                fault(Fault { path, what });
            }
        }
    };
    for path in entries(&hub)? {
        if path.extension().is_some_and(|extension| extension == "db") {
            let found = open(&path).and_then(|db| check_file(&db)).map(|()| 0);
            // A segment of the journal that was let go meanwhile.
            if path.exists() {
                note(&mut verified, path, found);
            }
        }
    }
    for folder in inbox_folders(root)? {
        verified.inboxes += 1;
        let messages = folder.join("messages.db");
        let found = open(&messages).and_then(|db| check_inbox(&db, &folder));
        note(&mut verified, messages, found);
        let status = folder.join("read_status.db");
        if status.is_file() {
            let found = open(&status).and_then(|db| check_file(&db)).map(|()| 0);
            note(&mut verified, status, found);
        }
        done();
    }
    Ok(verified)
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    found.sort();
    Ok(found)
}

/// The folders of all inboxes that have a file, of every tenant.
pub(super) fn inbox_folders(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = inboxes_in(root)?;
    let tenants = layout::tenants_dir(root);
    if tenants.is_dir() {
        for tenant in entries(&tenants)? {
            folders.extend(inboxes_in(&tenant)?);
        }
    }
    Ok(folders)
}

/// Folders of inboxes that have a file.
fn inboxes_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = entries(folder)?;
    found.retain(|path| {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden && path.join("messages.db").is_file()
    });
    Ok(found)
}

fn words(error: rusqlite::Error) -> String {
    error.to_string()
}

fn open(path: &Path) -> Result<Connection, String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(words)?;
    // All looks at a file are of one moment.
    db.execute_batch(&format!("PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}; BEGIN")).map_err(words)?;
    Ok(db)
}

fn check_file(db: &Connection) -> Result<(), String> {
    let found: String =
        db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(words)?;
    if found == "ok" { Ok(()) } else { Err(found) }
}

/// What must hold of an inbox, each with what is said where it does not.
const RULES: [(&str, &str); 5] = [
    (
        "SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM changes) = head - min_seq
         FROM inbox",
        "its changes have holes",
    ),
    (
        "SELECT max(ifnull((SELECT max(seq) FROM message), 0), ifnull((SELECT max(seq) FROM changes), 0))
             IN (head, 0) FROM inbox",
        "its latest change is another than it says",
    ),
    (
        "SELECT unread = (SELECT count(*) FROM message WHERE status = 0) FROM inbox",
        "its unread messages are counted wrong",
    ),
    (
        "SELECT NOT EXISTS (
             SELECT status, ifnull(channel_id, ''), count(*) FROM message GROUP BY 1, 2
             EXCEPT SELECT status, channel_id, count FROM tally)
         AND (SELECT ifnull(sum(count), 0) FROM tally) = (SELECT count(*) FROM message)",
        "its messages by channel are counted wrong",
    ),
    (
        "SELECT NOT EXISTS (SELECT 1 FROM message WHERE NOT json_valid(body))",
        "a message is no JSON",
    ),
];

/// Answers how many messages there are.
fn check_inbox(db: &Connection, folder: &Path) -> Result<u64, String> {
    check_file(db)?;
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(words)?;
    if version != VERSION {
        return Err(format!("it is of version {version}; this build reads {VERSION}"));
    }
    let (tenant, user): (String, String) = db
        .query_row("SELECT tenant, user FROM inbox", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(words)?;
    // A folder whose name is a hash does not tell whose it is.
    let wrong = layout::key_of(folder)
        .is_some_and(|key| key.tenant.as_str() != tenant || key.user.as_str() != user);
    if wrong {
        return Err("it belongs to another inbox".to_owned());
    }
    for (rule, said) in RULES {
        let holds: bool = db.query_row(rule, [], |row| row.get(0)).map_err(words)?;
        if !holds {
            return Err(said.to_owned());
        }
    }
    let count: i64 =
        db.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).map_err(words)?;
    Ok(count.cast_unsigned())
}
