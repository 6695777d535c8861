//! What went to which device and what devices confirmed, until it is in the inbox's file.
//!
//! Frames go out far more often than files are written, and a message to everyone that reaches ten
//! thousand devices must not become ten thousand writes. So notes wait in memory and go along when
//! the file is written for another reason; when many wait, before the inbox is forgotten, and at the
//! end of the store, they are a reason of their own. A crash loses them, which is all that is
//! promised of them.

use protocol::{DeviceId, Seq, Time};

/// Notes of an inbox that make it worth a write, 56 bytes each.
const WRITE_AT: usize = 64;

/// Notes that may wait for a file that cannot be written. One more makes the oldest go, which is
/// counted.
const NOTES_MAX: usize = 256;

/// What follows within this time goes to the same note: a receipt is right to a second, as the times
/// of frames to a device on the other side of the world are. In milliseconds.
pub(super) const MERGE_MS: i64 = 1_000;

/// What a device did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The frames went to it.
    Delivered,
    /// It confirmed them.
    Acked,
}

/// A range of changes that went to a device, or that it confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) kind: Kind,
    pub(super) device: DeviceId,
    /// The first of them; none for the first confirmation of a device: then those that went to it.
    pub(super) from: Option<Seq>,
    /// The last of them.
    pub(super) to: Seq,
    /// When it began.
    pub(super) at: Time,
}

/// The notes of an inbox that are not in its file yet.
#[derive(Debug, Default)]
pub(super) struct Notes {
    waiting: Vec<Note>,
    /// They are a reason to write the file.
    pub(super) due: bool,
}

impl Notes {
    /// Notes something. Answers how many were given up for it.
    pub(super) fn add(&mut self, note: Note) -> u64 {
        let latest = self
            .waiting
            .iter_mut()
            .rev()
            .find(|waiting| waiting.kind == note.kind && waiting.device == note.device);
        if let (Some(latest), Some(from)) = (latest, note.from)
            && latest.from.is_none_or(|first| first <= from)
            && from <= latest.to.next()
            && (0..=MERGE_MS).contains(&(note.at.millis() - latest.at.millis()))
        {
            latest.to = latest.to.max(note.to);
            return 0;
        }
        if self.waiting.is_empty() {
            // Most inboxes hold one or two for long: a message to everyone that went to a device.
            self.waiting.reserve_exact(1);
        }
        self.waiting.push(note);
        self.due |= self.waiting.len() >= WRITE_AT;
        if self.waiting.len() > NOTES_MAX {
            self.waiting.remove(0);
            return 1;
        }
        0
    }

    /// Takes those of changes up to a position, which the file has.
    pub(super) fn take(&mut self, up_to: Seq) -> Vec<Note> {
        self.due = false;
        self.waiting.extract_if(.., |note| note.to <= up_to).collect()
    }

    /// The file could not be written. Answers how many notes were given up.
    pub(super) fn put_back(&mut self, mut notes: Vec<Note>) -> u64 {
        notes.append(&mut self.waiting);
        let lost = notes.len().saturating_sub(NOTES_MAX);
        notes.drain(..lost);
        self.waiting = notes;
        self.due = true;
        lost as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Note> {
        self.waiting.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(kind: Kind, device: &str, from: u64, to: u64, at: i64) -> Note {
        let device = device.parse().unwrap();
        Note { kind, device, from: Some(Seq(from)), to: Seq(to), at: Time::from_millis(at) }
    }

    fn ranges(notes: &Notes) -> Vec<(u64, u64)> {
        notes.iter().map(|note| (note.from.unwrap_or_default().0, note.to.0)).collect()
    }

    #[test]
    fn what_follows_soon_is_one_note() {
        let mut notes = Notes::default();
        for (kind, device, from, to, at) in [
            (Kind::Delivered, "a", 1, 1, 0),
            (Kind::Delivered, "b", 1, 1, 0),
            (Kind::Delivered, "a", 2, 3, 1_000), // follows
            (Kind::Acked, "a", 1, 3, 0),         // another kind
            (Kind::Delivered, "a", 3, 4, 900),   // overlaps
            (Kind::Delivered, "a", 2, 3, 900),   // a repeat
            (Kind::Delivered, "a", 6, 6, 900),   // a hole
            (Kind::Delivered, "a", 7, 7, 1_901), // too late
            (Kind::Delivered, "a", 8, 8, 1_800), // the clock was set back
        ] {
            assert_eq!(notes.add(note(kind, device, from, to, at)), 0);
        }
        assert_eq!(ranges(&notes), [(1, 4), (1, 1), (1, 3), (6, 6), (7, 7), (8, 8)]);
        assert!(!notes.due);
        assert_eq!(notes.take(Seq(4)).len(), 3);
        assert_eq!(ranges(&notes), [(6, 6), (7, 7), (8, 8)]);
    }

    #[test]
    fn many_are_a_reason_to_write_and_there_is_an_end() {
        let mut notes = Notes::default();
        let mut lost = 0;
        for n in 1..=2 * NOTES_MAX as u64 {
            lost += notes.add(note(Kind::Delivered, "a", 2 * n, 2 * n, 0));
            assert_eq!(notes.due, n >= WRITE_AT as u64);
        }
        assert_eq!((notes.iter().count(), lost), (NOTES_MAX, NOTES_MAX as u64));
        assert_eq!(ranges(&notes)[0].0, 2 * (NOTES_MAX as u64 + 1), "the oldest went");
        let taken = notes.take(Seq(u64::MAX));
        assert!(!notes.due && notes.is_empty());
        notes.add(note(Kind::Delivered, "a", 9_999, 9_999, 0));
        assert_eq!(notes.put_back(taken), 1);
        assert_eq!(notes.iter().count(), NOTES_MAX);
        assert_eq!(ranges(&notes).last(), Some(&(9_999, 9_999)));
        assert!(notes.due);
    }
}
