//! Tells the witness what becomes of messages, before it is committed: told twice if the commit fails,
//! and never not at all.

use std::sync::Arc;

use protocol::{Body, DeviceId, Time};
use rustc_hash::FxHashMap;

use super::{
    columns::{Columns as _, seq},
    core::Core,
    errors::Failure,
    pool::{Transaction, rows},
    rows::Inbox,
};
use crate::{
    StoreError,
    store::{Happened, Happening},
};

/// Happenings that are told at once: bounds the bodies that are in memory for them.
const TOLD_MAX: usize = 256;

/// Something that happened to a message of an inbox.
pub(super) struct Told {
    pub(super) message_seq: i64,
    /// The change, or the message's place.
    pub(super) seq: i64,
    pub(super) what: Happened,
    pub(super) at: i64,
    pub(super) device: Option<DeviceId>,
}

impl Core {
    /// Whether anybody wants to know.
    pub(super) fn is_witnessed(&self) -> bool {
        self.config.witness.as_ref().is_some_and(|witness| witness.wants())
    }

    /// Tells what happened in an inbox. Messages that are not there any more are passed over.
    pub(super) async fn tell(
        &self,
        transaction: &Transaction<'_>,
        inbox: &Inbox,
        told: &[Told],
    ) -> Result<(), Failure> {
        let Some(witness) = self.config.witness.as_ref().filter(|witness| witness.wants()) else {
            return Ok(());
        };
        for told in told.chunks(TOLD_MAX) {
            let seqs: Vec<i64> = told.iter().map(|told| told.message_seq).collect();
            let sql = "SELECT m.seq, b.message_id, b.expire_at, b.body FROM messages m
                JOIN bodies b ON b.id = m.body WHERE m.inbox = $1 AND m.seq = ANY($2)";
            let mut bodies: FxHashMap<i64, Arc<Body>> = FxHashMap::default();
            for row in rows(transaction, sql, &[&inbox.id, &seqs]).await? {
                bodies.insert(row.column(0)?, row.body(1)?);
            }
            let happenings: Vec<Happening> = told
                .iter()
                .filter_map(|told| {
                    Some(Happening {
                        inbox: inbox.key.clone(),
                        message_seq: seq(told.message_seq),
                        seq: seq(told.seq),
                        body: Arc::clone(bodies.get(&told.message_seq)?),
                        what: told.what.clone(),
                        at: Time::from_millis(told.at),
                        device: told.device.clone(),
                    })
                })
                .collect();
            if happenings.is_empty() {
                continue;
            }
            let witness = Arc::clone(witness);
            // It may wait for a disk.
            let heard = tokio::task::spawn_blocking(move || witness.happened(&happenings)).await;
            match heard {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(StoreError::NotWritable(error).into()),
                Err(_) => return Err(StoreError::Closing.into()),
            }
        }
        Ok(())
    }
}
