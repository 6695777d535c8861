//! Inboxes, several at a time.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use protocol::Time;

use super::{Move, MoveError, PARALLEL, fill::number, unreadable};
use crate::{
    InboxKey,
    store::{
        portable::Cell,
        postgres::Ids,
        single::{MovedMessage, Wanted},
    },
};

/// Inboxes whose names are read at a time.
const PAGE: usize = 1_000;

impl Move<'_> {
    /// Does something for inboxes, several at a time: those that are not in the database yet, or all.
    pub(super) async fn each_inbox(
        &self,
        missing: bool,
        what: impl AsyncFn(i64, &InboxKey) -> Result<(), MoveError>,
    ) -> Result<(), MoveError> {
        let what = &what;
        let mut after = 0;
        loop {
            let page = self.import.inboxes(after, missing, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = *last;
            let all = page.into_iter().map(|(id, key)| async move { what(id, &key).await });
            stream::iter(all)
                .buffer_unordered(PARALLEL)
                .try_for_each(|()| {
                    self.progress.advance(1);
                    std::future::ready(Ok(()))
                })
                .await?;
        }
    }

    pub(super) async fn fill_inboxes(&self) -> Result<(), MoveError> {
        self.each_inbox(true, async |id, key| self.fill_inbox(id, key).await).await
    }

    async fn fill_inbox(&self, id: i64, key: &InboxKey) -> Result<(), MoveError> {
        let mut client = self.import.client().await?;
        let mut part = self.import.inbox(&mut client, id).await?;
        let mut after = 0;
        loop {
            let page = self.export.messages(key, after).await.map_err(unreadable)?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            let bodies = self.bodies(key, &page).await?;
            part.messages(page, &bodies).await?;
        }
        let mut after = 0;
        loop {
            let rows = self.export.changes(key, after).await.map_err(unreadable)?;
            let Some(last) = rows.last() else { break };
            after = number(last, 0);
            part.changes(rows).await?;
        }
        let mut after = BEFORE_RECEIPTS;
        loop {
            let rows = self.export.receipts(key, after.clone()).await.map_err(unreadable)?;
            let Some(last) = rows.last() else { break };
            after = receipt(last);
            part.receipts(rows).await?;
        }
        Ok(part.finish(self.export.inbox(key).await.map_err(unreadable)?).await?)
    }

    /// The bodies of messages, brought there if they are not there.
    async fn bodies(&self, key: &InboxKey, page: &[MovedMessage]) -> Result<Ids, MoveError> {
        let names: Vec<&str> = page.iter().map(|message| message.id.as_str()).collect();
        let mut known = self.import.find_bodies(&key.tenant, &names).await?;
        let wanted = |message: &MovedMessage| Wanted {
            tenant: key.tenant.clone(),
            id: message.id.clone(),
            body: Some(std::sync::Arc::clone(&message.body)),
            recalled: message.status == RECALLED,
            at: Time::from_millis(message.stored_at),
            place: None,
        };
        let missing: Vec<Wanted> =
            page.iter().filter(|message| !known.contains_key(&message.id)).map(wanted).collect();
        // An inbox in which a message had expired did not get its later edits.
        let edited: Vec<Wanted> = page
            .iter()
            .filter(|message| message.edited && message.status < RECALLED)
            .filter(|message| known.contains_key(&message.id))
            .map(wanted)
            .collect();
        if !missing.is_empty() {
            let bodies = self.export.sent_bodies(missing).await?;
            known.extend(self.import.store_bodies(bodies).await?);
        }
        if !edited.is_empty() {
            self.import.refresh_bodies(&self.export.sent_bodies(edited).await?).await?;
        }
        Ok(known)
    }
}

/// The code of `recalled`, from which on a message is not shown.
const RECALLED: i64 = 3;

/// Before all receipts.
pub(super) const BEFORE_RECEIPTS: (i64, i64, String) = (0, 0, String::new());

/// Where a receipt stands.
pub(super) fn receipt(row: &[Cell]) -> (i64, i64, String) {
    match row {
        [Cell::Int(from), Cell::Int(kind), Cell::Text(device), ..] => {
            (*from, *kind, device.clone())
        }
        _ => BEFORE_RECEIPTS,
    }
}
