//! Marks and presses: decided and written under the inbox's lock.

use protocol::{DeviceId, MessageId, PressedAction, Status};

use super::{
    columns::{plain, position},
    core::Core,
    errors::Failure,
    groups,
    pool::{self, Transaction},
    reads::{find, head_of},
    slot::By,
    stats,
    tell::Told,
    work::Work,
};
use crate::{
    InboxKey, StoreError,
    store::{Accepted, Happened, Head, Mark, MarkTarget, Marked, Pressing, is_live},
};

/// Which statuses a mark changes: what is recalled, expired or collapsed is not there for the user, so it
/// cannot be marked either.
const fn from(mark: Mark) -> &'static [i16] {
    match mark {
        Mark::Read => &[0],
        Mark::Unread => &[1],
        Mark::Archive => &[0, 1],
    }
}

impl Core {
    /// Locks an inbox that is to be changed as its owner sees it.
    pub(super) async fn lock_current(
        &self,
        transaction: &Transaction<'_>,
        key: &InboxKey,
        id: i64,
        strict: bool,
    ) -> Result<Work, Failure> {
        let now = self.now(transaction).await?;
        let work = Work::lock(transaction, &[id], now).await?;
        let Some(slot) = work.slots.first().filter(|slot| slot.inbox.key == *key) else {
            self.names.forget(key);
            return Err(Failure::Gone);
        };
        let expired = slot.inbox.next_expiry.is_some_and(|at| at <= now);
        if strict && (expired || groups::is_pending(transaction, &slot.inbox).await?) {
            return Err(Failure::Behind(id));
        }
        Ok(work)
    }

    pub(super) async fn mark(
        &self,
        key: &InboxKey,
        device: Option<&DeviceId>,
        mark: Mark,
        target: &MarkTarget,
    ) -> Result<Marked, Failure> {
        let accepted = &Accepted::now();
        self.reading(|strict| self.try_mark(key, (device, accepted), mark, target, strict)).await
    }

    async fn try_mark(
        &self,
        key: &InboxKey,
        (device, accepted): (Option<&DeviceId>, &Accepted),
        mark: Mark,
        target: &MarkTarget,
        strict: bool,
    ) -> Result<Marked, Failure> {
        let mut client = self.db.client().await?;
        let Some(id) = self.id_of(&client, key).await? else {
            return match target {
                MarkTarget::One { .. } => Err(StoreError::NotFound.into()),
                MarkTarget::Many(_) | MarkTarget::UpTo(_) | MarkTarget::Channel(_) => {
                    Ok(Marked { changed: 0, head: Head::default(), message: None })
                }
            };
        };
        let transaction = pool::begin(&mut client).await?;
        let mut work = self.lock_current(&transaction, key, id, strict).await?;
        let seqs = targets(&transaction, &mut work, mark, target).await?;
        let by = By { device, at: work.now, accepted };
        let mut told = Vec::new();
        for message_seq in &seqs {
            let slot = &mut work.slots[0];
            slot.mark(*message_seq, mark, by);
            let what = match mark {
                Mark::Read => Happened::Read,
                Mark::Unread => Happened::Unread,
                Mark::Archive => Happened::Archived,
            };
            let (message_seq, seq) = (*message_seq, slot.inbox.head);
            told.push(Told { message_seq, seq, what, at: by.at, device: device.cloned() });
        }
        if mark == Mark::Read {
            stats::read(&transaction, id, &seqs, by.at).await?;
        }
        self.tell(&transaction, &work.slots[0].inbox, &told).await?;
        work.write(&transaction).await?;
        let inbox = work.slots[0].inbox.clone();
        let message = match target {
            MarkTarget::One { id, .. } => {
                Some(find(&transaction, &inbox, id).await?.ok_or(StoreError::NotFound)?)
            }
            MarkTarget::Many(_) | MarkTarget::UpTo(_) | MarkTarget::Channel(_) => None,
        };
        if !seqs.is_empty() {
            self.seal(transaction, &work).await?;
        }
        Ok(Marked { changed: seqs.len() as u64, head: head_of(&inbox), message })
    }

    pub(super) async fn press(
        &self,
        key: &InboxKey,
        device: Option<&DeviceId>,
        message: &MessageId,
        index: u8,
    ) -> Result<Pressing, Failure> {
        let accepted = &Accepted::now();
        self.reading(|strict| self.try_press(key, (device, accepted), message, index, strict)).await
    }

    async fn try_press(
        &self,
        key: &InboxKey,
        (device, accepted): (Option<&DeviceId>, &Accepted),
        message: &MessageId,
        index: u8,
        strict: bool,
    ) -> Result<Pressing, Failure> {
        let mut client = self.db.client().await?;
        let id = self.id_of(&client, key).await?.ok_or(StoreError::NotFound)?;
        let transaction = pool::begin(&mut client).await?;
        let mut work = self.lock_current(&transaction, key, id, strict).await?;
        let inbox = work.slots[0].inbox.clone();
        let found = find(&transaction, &inbox, message).await?.ok_or(StoreError::NotFound)?;
        if found.pressed.iter().any(|pressed| pressed.action.index == index) {
            return Ok(Pressing { first: false, message: found });
        }
        // A body that cannot be parsed has no buttons.
        let buttons = found.body.fields().map(|fields| fields.actions).unwrap_or_default();
        let button = buttons.into_iter().nth(usize::from(index)).ok_or(StoreError::NotFound)?;
        let action = PressedAction { index, action: button.action };
        let message_seq = position(found.state.seq);
        work.read_some(&transaction, "m.inbox = $1 AND m.seq = $2", &[&id, &message_seq]).await?;
        let by = By { device, at: work.now, accepted };
        let slot = &mut work.slots[0];
        slot.press(message_seq, action.clone(), by);
        let seq = slot.inbox.head;
        let told = |what| Told { message_seq, seq, what, at: by.at, device: device.cloned() };
        let mut happened = vec![told(Happened::Pressed(action))];
        if found.state.status == Status::Unread {
            happened.insert(0, told(Happened::Read));
            stats::read(&transaction, id, &[message_seq], by.at).await?;
        }
        self.tell(&transaction, &inbox, &happened).await?;
        work.write(&transaction).await?;
        let message = find(&transaction, &inbox, message).await?.ok_or(StoreError::NotFound)?;
        self.seal(transaction, &work).await?;
        Ok(Pressing { first: true, message })
    }
}

/// Reads the messages that a mark changes. Answers their places.
async fn targets(
    transaction: &Transaction<'_>,
    work: &mut Work,
    mark: Mark,
    target: &MarkTarget,
) -> Result<Vec<i64>, Failure> {
    let inbox = work.slots[0].inbox.clone();
    let (id, tenant, from) = (inbox.id, inbox.key.tenant.as_str(), from(mark));
    match target {
        MarkTarget::One { id: message, expected } => {
            let condition = "m.inbox = $1 AND b.tenant = $2 AND b.message_id = $3";
            let values: pool::Values<'_> = &[&id, &tenant, &message.as_str()];
            let seqs = work.read_some(transaction, condition, values).await?;
            let found = work.slots[0].messages.first().filter(|one| is_live(one.status));
            let found = found.ok_or(StoreError::NotFound)?;
            if expected.is_some_and(|expected| position(expected) != found.version) {
                let current =
                    find(transaction, &inbox, message).await?.ok_or(StoreError::NotFound)?;
                return Err(StoreError::VersionConflict(Box::new(current)).into());
            }
            let changes = from.contains(&super::columns::status_code(found.status));
            Ok(if changes { seqs } else { Vec::new() })
        }
        MarkTarget::Many(ids) => {
            let ids: Vec<&str> = ids.iter().map(MessageId::as_str).collect();
            let condition = "m.inbox = $1 AND b.tenant = $2 AND b.message_id = ANY($3)
                AND m.status = ANY($4)";
            work.read_some(transaction, condition, &[&id, &tenant, &ids, &from]).await
        }
        MarkTarget::UpTo(seq) => {
            let condition = "m.inbox = $1 AND m.seq <= $2 AND m.status = ANY($3)";
            work.read_some(transaction, condition, &[&id, &position(*seq), &from]).await
        }
        MarkTarget::Channel(channel) => {
            let condition = "m.inbox = $1 AND m.channel = $2 AND m.status = ANY($3)";
            work.read_some(transaction, condition, &[&id, &&*plain(channel), &from]).await
        }
    }
}
