//! What went to devices and what they confirmed, on its way into the database.
//!
//! Frames go out far more often than anything is written, and a message to everyone that reaches ten
//! thousand devices must not become ten thousand transactions. So notes wait in memory for
//! [`FLUSH_EVERY`] and are written together. A crash loses them, which is all that is promised of them.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use parking_lot::Mutex;
use protocol::{DeviceId, Seq};
use tokio::sync::Notify;

use super::{
    columns::{Columns as _, position},
    core::Core,
    errors::Failure,
    noting,
    pool::rows,
};
use crate::InboxKey;

/// How long a note waits, at most: an ack that is confirmed to nobody may be lost by a crash for as long.
pub(super) const FLUSH_EVERY: Duration = Duration::from_millis(500);

/// Devices whose notes are written in one transaction.
const FLUSH_MAX: usize = 1_000;

/// Devices whose notes may wait while the database cannot be written; those of others are given up.
const DEVICES_WAITING_MAX: usize = 100_000;

/// Ranges of one device that may wait; what comes beyond is taken to be one with the last.
const RANGES_MAX: usize = 64;

/// A range of changes, first and last.
pub(super) type Range = (i64, i64);

/// What waits of one device.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) acked: Option<Seq>,
    pub(super) delivered: Vec<Range>,
}

type Devices = HashMap<(InboxKey, DeviceId), Waiting>;

/// Notes that wait.
#[derive(Default)]
pub(super) struct Notes {
    devices: Mutex<Devices>,
    full: Notify,
    /// Whoever writes them, so that one who waits for it finds them written.
    writing: tokio::sync::Mutex<()>,
}

impl Notes {
    pub(super) fn ack(&self, inbox: &InboxKey, device: &DeviceId, seq: Seq) -> bool {
        self.note(inbox, device, |waiting| waiting.acked = waiting.acked.max(Some(seq)))
    }

    pub(super) fn delivered(
        &self,
        inbox: &InboxKey,
        device: &DeviceId,
        from: Seq,
        to: Seq,
    ) -> bool {
        let (first, last) = (position(from.next()), position(to));
        first > last
            || self.note(inbox, device, |waiting| {
                let many = waiting.delivered.len() >= RANGES_MAX;
                match waiting.delivered.last_mut() {
                    Some(latest) if many || (latest.0 <= first && first <= latest.1 + 1) => {
                        latest.1 = latest.1.max(last);
                    }
                    _ => waiting.delivered.push((first, last)),
                }
            })
    }

    /// Whether there was room for it.
    fn note(&self, inbox: &InboxKey, device: &DeviceId, note: impl FnOnce(&mut Waiting)) -> bool {
        let mut devices = self.devices.lock();
        let key = (inbox.clone(), device.clone());
        if devices.len() >= DEVICES_WAITING_MAX && !devices.contains_key(&key) {
            return false;
        }
        note(devices.entry(key).or_default());
        if devices.len() >= FLUSH_MAX {
            self.full.notify_one();
        }
        true
    }

    /// An inbox is not there any more.
    pub(super) fn forget(&self, inbox: &InboxKey) {
        self.devices.lock().retain(|(key, _), _| key != inbox);
    }

    /// They could not be written.
    fn put_back(&self, taken: Vec<((InboxKey, DeviceId), Waiting)>) {
        let mut devices = self.devices.lock();
        for (key, mut before) in taken {
            let waiting = devices.entry(key).or_default();
            waiting.acked = waiting.acked.max(before.acked);
            before.delivered.append(&mut waiting.delivered);
            before.delivered.truncate(RANGES_MAX);
            waiting.delivered = before.delivered;
        }
    }
}

/// Writes notes from time to time.
pub(super) async fn run(core: Arc<Core>) {
    loop {
        let _ = tokio::time::timeout(FLUSH_EVERY, core.notes.full.notified()).await;
        if let Err(failure) = flush(&core).await {
            tracing::debug!(
                error = &failure as &dyn std::error::Error,
                "receipts cannot be written now"
            );
            tokio::time::sleep(FLUSH_EVERY).await;
        }
    }
}

/// Writes all notes that wait.
pub(super) async fn flush(core: &Core) -> Result<(), Failure> {
    let _one = core.notes.writing.lock().await;
    let devices = mem::take(&mut *core.notes.devices.lock());
    let mut rest: Vec<_> = devices.into_iter().collect();
    while !rest.is_empty() {
        let some = rest.split_off(rest.len().saturating_sub(FLUSH_MAX));
        let written = async {
            bring(core, &some).await?;
            core.retry(|| noting::write(core, &some)).await
        };
        if let Err(failure) = written.await {
            rest.extend(some);
            core.notes.put_back(rest);
            return Err(failure);
        }
    }
    Ok(())
}

/// Brings inboxes to now that a device has confirmed more of than they have: what waits for them is
/// what it saw, or would see.
async fn bring(core: &Core, notes: &[((InboxKey, DeviceId), Waiting)]) -> Result<(), Failure> {
    let (mut tenants, mut users, mut seqs) = (Vec::new(), Vec::new(), Vec::new());
    for ((key, _), waiting) in notes {
        if let Some(acked) = waiting.acked {
            tenants.push(key.tenant.as_str());
            users.push(key.user.as_str());
            seqs.push(position(acked));
        }
    }
    if tenants.is_empty() {
        return Ok(());
    }
    let client = core.db.client().await?;
    let sql = "SELECT DISTINCT i.tenant, i.usr
        FROM unnest($1::text[], $2::text[], $3::bigint[]) AS k (tenant, usr, seq)
        JOIN inboxes i ON i.tenant = k.tenant AND i.usr = k.usr AND i.head < k.seq";
    let behind = rows(&client, sql, &[&tenants, &users, &seqs]).await?;
    drop(client);
    for row in behind {
        core.head(&InboxKey::new(row.id(0)?, row.id(1)?)).await?;
    }
    Ok(())
}
