//! What became of a message at its recipients.

use protocol::{DeviceId, MessageId, PressedAction, TenantId, UserId};
use rustc_hash::FxHashMap;

use super::{
    columns::{Columns as _, group_text, most},
    core::Core,
    errors::Failure,
    ledger::Sent,
    noting::SPAN,
    pool::{self, rows},
};
use crate::{
    StoreError,
    store::{Audience, DeviceReceipt, Pressed, Receipt, ReceiptPage, SentState},
};

impl Core {
    pub(super) async fn receipts(
        &self,
        tenant: &TenantId,
        id: &MessageId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<ReceiptPage, Failure> {
        super::notes::flush(self).await?;
        let Some(sent) = self.sent(tenant, id).await? else {
            return Err(StoreError::NotFound.into());
        };
        match sent.message.state {
            // Nobody received it.
            SentState::Scheduled | SentState::Cancelled => return Ok(ReceiptPage::default()),
            SentState::Sent | SentState::Recalled => {}
        }
        // One more than asked tells whether there is more.
        let mut users = self.recipients(tenant, &sent, after, limit.saturating_add(1)).await?;
        let more = users.len() > limit;
        users.truncate(limit);
        Ok(ReceiptPage { receipts: self.receipts_of(tenant, &sent, users).await?, more })
    }

    /// Who was meant by an audience when it was sent, in the order of their ids.
    async fn recipients(
        &self,
        tenant: &TenantId,
        sent: &Sent,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>, Failure> {
        let client = self.db.client().await?;
        let (tenant, after) = (tenant.as_str(), after.map_or("", UserId::as_str));
        let (pos, most) = (sent.pos.unwrap_or_default(), most(limit));
        let found = match &sent.message.audience {
            Audience::Everyone => {
                let sql = "SELECT usr FROM inboxes
                    WHERE tenant = $1 AND usr > $2 AND born_pos < $3 ORDER BY usr LIMIT $4";
                rows(&client, sql, &[&tenant, &after, &pos, &most]).await?
            }
            Audience::Some { users, groups } => {
                let users: Vec<&str> = users.iter().map(UserId::as_str).collect();
                let groups: Vec<String> = groups.iter().map(group_text).collect();
                let sql = "SELECT usr FROM (
                    SELECT usr FROM unnest($5::text[]) AS usr WHERE usr COLLATE \"C\" > $2
                    UNION SELECT usr FROM members WHERE tenant = $1 AND usr > $2 AND grp = ANY($6)
                        AND since_pos < $3 AND (until_pos IS NULL OR until_pos > $3)
                    ) AS k ORDER BY usr COLLATE \"C\" LIMIT $4";
                let values: pool::Values<'_> = &[&tenant, &after, &pos, &most, &users, &groups];
                rows(&client, sql, values).await?
            }
        };
        found.iter().map(|row| row.id(0)).collect()
    }

    async fn receipts_of(
        &self,
        tenant: &TenantId,
        sent: &Sent,
        users: Vec<UserId>,
    ) -> Result<Vec<Receipt>, Failure> {
        let names: Vec<&str> = users.iter().map(UserId::as_str).collect();
        let mut client = self.db.client().await?;
        let look = pool::look(&mut client).await?;
        let sql =
            "SELECT i.usr, i.id, m.seq, m.stored_at, CASE WHEN m.status > 0 THEN m.read_at END
            FROM unnest($2::text[]) AS k (usr) JOIN inboxes i ON i.tenant = $1 AND i.usr = k.usr
            JOIN messages m ON m.body = $3 AND m.inbox = i.id";
        let mut receipts: FxHashMap<UserId, Receipt> = FxHashMap::default();
        let (mut inboxes, mut seqs) = (Vec::<i64>::new(), Vec::<i64>::new());
        let mut owners: FxHashMap<i64, UserId> = FxHashMap::default();
        for row in rows(&look, sql, &[&tenant.as_str(), &names, &sent.id]).await? {
            let user: UserId = row.id(0)?;
            inboxes.push(row.column(1)?);
            seqs.push(row.column(2)?);
            owners.insert(row.column(1)?, user.clone());
            let stored_at = Some(row.time(3)?);
            let read_at = row.maybe_time(4)?;
            receipts
                .insert(user.clone(), Receipt { stored_at, read_at, ..Receipt::nothing_of(user) });
        }
        let sql = "SELECT r.inbox, r.device, r.kind, r.at
            FROM unnest($1::bigint[], $2::bigint[]) AS k (inbox, seq)
            JOIN receipts r ON r.inbox = k.inbox AND r.to_seq >= k.seq
                AND r.from_seq BETWEEN k.seq - k.seq % $3 AND k.seq
            ORDER BY r.inbox, r.device";
        for row in rows(&look, sql, &[&inboxes, &seqs, &SPAN]).await? {
            let owner = owners.get(&row.column::<i64>(0)?);
            let Some(receipt) = owner.and_then(|user| receipts.get_mut(user)) else { continue };
            let device_id: DeviceId = row.id(1)?;
            if receipt.devices.last().is_none_or(|last| last.device_id != device_id) {
                receipt.devices.push(DeviceReceipt {
                    device_id,
                    delivered_at: None,
                    acked_at: None,
                });
            }
            let Some(last) = receipt.devices.last_mut() else { continue };
            let at = Some(row.time(3)?);
            match row.column::<i16>(2)? {
                0 => last.delivered_at = at,
                _ => last.acked_at = at,
            }
        }
        let sql = "SELECT c.inbox, c.action_index, c.action, c.at, c.device
            FROM unnest($1::bigint[], $2::bigint[]) AS k (inbox, seq)
            JOIN changes c ON c.inbox = k.inbox AND c.message_seq = k.seq AND c.action_index IS NOT NULL
            ORDER BY c.inbox, c.action_index";
        for row in rows(&look, sql, &[&inboxes, &seqs]).await? {
            let owner = owners.get(&row.column::<i64>(0)?);
            let Some(receipt) = owner.and_then(|user| receipts.get_mut(user)) else { continue };
            let index = u8::try_from(row.column::<i16>(1)?).map_err(Failure::unreadable)?;
            receipt.actions.push(Pressed {
                action: PressedAction { index, action: row.column(2)? },
                at: row.time(3)?,
                device_id: row.maybe_device(4)?,
            });
        }
        for receipt in receipts.values_mut() {
            let devices = &receipt.devices;
            receipt.delivered_at = devices.iter().filter_map(|device| device.delivered_at).min();
            receipt.acked_at = devices.iter().filter_map(|device| device.acked_at).min();
        }
        let of = |user: UserId| receipts.remove(&user).unwrap_or_else(|| Receipt::nothing_of(user));
        Ok(users.into_iter().map(of).collect())
    }
}
