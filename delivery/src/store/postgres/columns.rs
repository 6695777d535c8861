//! How things stand in columns.

use std::{borrow::Cow, str::FromStr, sync::Arc};

use protocol::{Body, DeviceId, IdError, MessageId, Seq, ServiceId, Status, Time, UserId};
use tokio_postgres::{Row, types::FromSql};

use super::errors::Failure;
use crate::store::{Group, SenderKey, SentState};

/// What `changes.kind` says.
pub(super) mod kind {
    pub(in super::super) const MARK: i16 = 0;
    pub(in super::super) const PRESS: i16 = 1;
    pub(in super::super) const EDIT: i16 = 2;
    pub(in super::super) const RECALL: i16 = 3;
}

/// Statuses that are counted: those that a list can show. See [`status_code`].
pub(super) const COUNTED: usize = 4;

pub(super) const fn status_code(status: Status) -> i16 {
    match status {
        Status::Unread => 0,
        Status::Read => 1,
        Status::Archived => 2,
        Status::Recalled => 3,
        Status::Expired => 4,
        Status::Collapsed => 5,
    }
}

pub(super) const fn status_from(code: i16) -> Status {
    match code {
        0 => Status::Unread,
        1 => Status::Read,
        2 => Status::Archived,
        3 => Status::Recalled,
        4 => Status::Expired,
        _ => Status::Collapsed,
    }
}

pub(super) const fn state_code(state: SentState) -> i16 {
    match state {
        SentState::Scheduled => 0,
        SentState::Sent => 1,
        SentState::Cancelled => 2,
        SentState::Recalled => 3,
    }
}

pub(super) const fn state_from(code: i16) -> SentState {
    match code {
        0 => SentState::Scheduled,
        1 => SentState::Sent,
        2 => SentState::Cancelled,
        _ => SentState::Recalled,
    }
}

pub(super) fn group_text(group: &Group) -> String {
    match group {
        Group::Channel(id) => format!("c:{id}"),
        Group::Role(id) => format!("r:{id}"),
    }
}

pub(super) fn group_from(text: &str) -> Result<Group, Failure> {
    let group = match text.split_at_checked(2) {
        Some(("c:", id)) => id.parse().map(Group::Channel),
        Some(("r:", id)) => id.parse().map(Group::Role),
        _ => Err(IdError::Empty),
    };
    group.map_err(Failure::unreadable)
}

pub(super) fn sender_text(sender: &SenderKey) -> String {
    match sender {
        SenderKey::Service(id) => format!("service:{id}"),
        SenderKey::User(id) => format!("user:{id}"),
        SenderKey::Admin => "admin".to_owned(),
    }
}

pub(super) fn sender_from(text: &str) -> Result<SenderKey, Failure> {
    let key = match text.split_once(':') {
        Some(("service", id)) => ServiceId::new(id).map(SenderKey::Service),
        Some((_, id)) => UserId::new(id).map(SenderKey::User),
        None => Ok(SenderKey::Admin),
    };
    key.map_err(Failure::unreadable)
}

/// A sender's words as a column: PostgreSQL's `text` is the one thing that takes no NUL.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{FFFD}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A position, which may be one that a client made up, beyond all that are.
pub(super) fn position(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

/// As a `LIMIT`.
pub(super) fn most(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// A position in a column.
pub(super) const fn seq(column: i64) -> Seq {
    Seq(column.cast_unsigned())
}

/// Reads columns, with an error where one is not what it should be.
pub(super) trait Columns {
    fn column<'a, T: FromSql<'a>>(&'a self, at: usize) -> Result<T, Failure>;

    fn id<T: FromStr<Err = IdError>>(&self, at: usize) -> Result<T, Failure> {
        self.column::<&str>(at)?.parse().map_err(Failure::unreadable)
    }

    fn seq(&self, at: usize) -> Result<Seq, Failure> {
        self.column(at).map(seq)
    }

    fn count(&self, at: usize) -> Result<u64, Failure> {
        self.column::<i64>(at).map(|count| u64::try_from(count).unwrap_or(0))
    }

    fn time(&self, at: usize) -> Result<Time, Failure> {
        self.column(at).map(Time::from_millis)
    }

    fn maybe_time(&self, at: usize) -> Result<Option<Time>, Failure> {
        Ok(self.column::<Option<i64>>(at)?.map(Time::from_millis))
    }

    fn maybe_device(&self, at: usize) -> Result<Option<DeviceId>, Failure> {
        let device = self.column::<Option<&str>>(at)?;
        device.map(str::parse).transpose().map_err(Failure::unreadable)
    }

    /// Reads `message_id, expire_at, body` from three columns.
    fn body(&self, at: usize) -> Result<Arc<Body>, Failure> {
        let id: MessageId = self.id(at)?;
        let json = self.column::<&str>(at + 2)?;
        Ok(Arc::new(Body::from_stored(id, self.maybe_time(at + 1)?, json.as_bytes())))
    }
}

impl Columns for Row {
    fn column<'a, T: FromSql<'a>>(&'a self, at: usize) -> Result<T, Failure> {
        self.try_get(at).map_err(Failure::Db)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_senders_come_back() {
        for group in [
            Group::Channel("r:x".parse().unwrap()),
            Group::Role("department:研发".parse().unwrap()),
        ] {
            assert_eq!(group_from(&group_text(&group)).unwrap(), group);
        }
        for text in ["", "c", "c:", "x:y", "é:"] {
            assert!(group_from(text).is_err());
        }
        for sender in [
            SenderKey::Service("a:b".parse().unwrap()),
            SenderKey::User("admin".parse().unwrap()),
            SenderKey::Admin,
        ] {
            assert_eq!(sender_from(&sender_text(&sender)).unwrap(), sender);
        }
    }

    #[test]
    fn text_has_no_nul() {
        assert_eq!(plain("a\0b"), "a\u{FFFD}b");
        assert!(matches!(plain("ab"), Cow::Borrowed("ab")));
    }
}
