//! What is said of a run.

use protocol::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of `run.json`.
const FORMAT: u32 = 1;

/// Digits of chance at the end of an id: two hubs that share a place by mistake do not write into one run.
const CHANCE: usize = 8;

/// A backup of everybody, as its `run.json` says. That is written last: a run without one was broken off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "BackupRun")]
pub struct RunRecord {
    /// The version of this record.
    pub format: u32,
    /// Its id, which begins with when it began: ids are in the order of time.
    pub id: String,
    /// `full`: every inbox from its beginning; `incremental`: what changed since `previous`.
    #[serde(rename = "type")]
    #[schemars(regex(pattern = "^(full|incremental)$"))]
    pub kind: String,
    /// The run that an incremental one is put on, back to a full one.
    pub previous: Option<String>,
    /// When it began.
    pub started_at: Time,
    /// When it was whole.
    pub finished_at: Time,
    /// Inboxes that can be brought back from it and those before it.
    pub inboxes: u64,
    /// Inboxes of which it has a file: all, or those that changed.
    pub written: u64,
    /// Inboxes that could not be read; what earlier runs have of them is still used.
    pub failed: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Whether they are encrypted for `BACKUP_ENCRYPTION_KEY`, all but `index.db.gz`.
    pub encrypted: bool,
    /// Its files beside those of inboxes, which `index.db.gz` names.
    pub parts: Vec<Part>,
    /// Runs that were kept no longer when it was whole.
    pub removed: Vec<String>,
}

/// A file of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "BackupRunPart")]
pub struct Part {
    /// Its name in the run's folder.
    pub name: String,
    /// How large it is.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

impl RunRecord {
    /// As it begins.
    pub(super) fn begin(started_at: Time, previous: Option<&Self>, encrypted: bool) -> Self {
        let kind = if previous.is_some() { "incremental" } else { "full" };
        Self {
            format: FORMAT,
            id: new_id(started_at),
            kind: kind.to_owned(),
            previous: previous.map(|record| record.id.clone()),
            started_at,
            finished_at: started_at,
            inboxes: 0,
            written: 0,
            failed: 0,
            bytes: 0,
            encrypted,
            parts: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// Of a `run.json`; none of one that this build does not know.
    pub(super) fn read(id: &str, bytes: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(bytes).ok()?;
        (record.format == FORMAT && record.id == id).then_some(record)
    }

    /// Whether every inbox is in it from its beginning.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.previous.is_none()
    }

    /// A file of it.
    pub(super) fn part(&self, name: &str) -> Option<&Part> {
        // Behind it stands what is around it.
        self.parts.iter().find(|part| part.name.starts_with(name))
    }
}

/// `20250115T093000123Z-4f2a90b1`, with milliseconds: in the order of time, and a name everywhere.
fn new_id(at: Time) -> String {
    let seconds = Time::from_millis(at.millis().div_euclid(1_000) * 1_000).to_string();
    let seconds: String = seconds.chars().filter(|c| c.is_ascii_digit() || *c == 'T').collect();
    let chance = uuid::Uuid::now_v7().simple().to_string();
    let millis = at.millis().rem_euclid(1_000);
    format!("{seconds}{millis:03}Z-{}", &chance[chance.len() - CHANCE..])
}

/// Whether a name is a run's.
pub(super) fn is_id(name: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((when, chance)) = name.split_once('-') else { return false };
    let when = when.strip_suffix('Z').and_then(|when| when.split_once('T'));
    let is_chance = chance.len() == CHANCE && chance.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_chance
        && when.is_some_and(|(day, time)| {
            (day.len(), time.len()) == (8, 9) && digits(day) && digits(time)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_when_and_nothing_else_is_one() {
        let id = new_id(Time::parse("2025-01-15T09:30:00.123Z").unwrap());
        assert!(id.starts_with("20250115T093000123Z-") && is_id(&id), "{id}");
        assert!(is_id(&new_id(Time::parse("2025-01-15T09:30:00Z").unwrap())));
        for name in [
            "",
            "x",
            ".gone-20250115T093000123Z-4f2a90b1",
            "20250115T093000123Z-",
            "20250115T093000123Z-../../x",
        ] {
            assert!(!is_id(name), "{name}");
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was_and_another_version_does_not() {
        let full = RunRecord::begin(crate::clock::now(), None, true);
        let next = RunRecord::begin(crate::clock::now(), Some(&full), true);
        assert!(full.is_full() && !next.is_full() && next.previous.as_deref() == Some(&full.id));
        let bytes = serde_json::to_vec(&next).unwrap();
        assert_eq!(RunRecord::read(&next.id, &bytes), Some(next.clone()));
        assert_eq!(RunRecord::read(&full.id, &bytes), None, "somebody moved it");
        let newer = serde_json::to_vec(&RunRecord { format: 2, ..next.clone() }).unwrap();
        assert_eq!(RunRecord::read(&next.id, &newer), None);
    }
}
