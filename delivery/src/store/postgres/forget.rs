//! A user is forgotten.
//!
//! One transaction takes the inbox, the memberships and what is known of the user away, under the locks of
//! everybody else who changes these: from its commit on nobody finds them, whatever ids nodes remember, and who
//! is sent something then has a new inbox. It leaves a row of `forgetting`. What hangs on the old inbox's id, and
//! what of the ledger names the user, is nobody's any more and goes after it, in pieces; each piece is a
//! transaction that holds the row. So any node goes on with it, after a kill as well, and two that do so take
//! turns.
//!
//! **Nothing comes after.** Whoever writes something for an inbox's id without its lock (notes of devices, the
//! index of searches) holds the inbox's key meanwhile (`FOR KEY SHARE`), for which taking it away waits.
//!
//! **Bodies are gone through in the order of their ids**: what was pruned from the inbox still stands in the
//! ledger with its recipients, and no index leads from a name to it. One for each user that is named would cost
//! every send; going through a million takes some seconds, once for a user who is forgotten.

use std::{sync::Arc, time::Duration};

use protocol::{TenantId, UserId};

use super::{
    append::encode,
    columns::{Columns as _, group_text, sender_text, state_code},
    core::Core,
    deliver,
    errors::Failure,
    ledger::named,
    members::groups_of,
    pool::{self, Transaction, execute, row, rows},
};
use crate::{
    InboxKey,
    store::{Audience, Channel, SenderKey, SentState},
};

/// Rows that hang on an inbox and go in one transaction.
const PIECE: i64 = 1_000;

/// Bodies that are looked at in one transaction: a page is read in some ten milliseconds.
const BODIES: i64 = 5_000;

/// How often a node looks whether somebody is being forgotten by a node that has ended.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What hangs on an inbox's id, beside messages. Each is found by it.
const TABLES: [&str; 8] = [
    "changes",
    "receipts",
    "search_texts",
    "tallies",
    "cursors",
    "reached",
    "search_states",
    "moved_inboxes",
];

/// What has a tenant and no user, by piece.
const TENANT_PIECES: [&str; 7] = [
    "DELETE FROM broadcast_groups WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM broadcast_groups WHERE tenant = $1 LIMIT $2))",
    "DELETE FROM broadcasts WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM broadcasts WHERE tenant = $1 LIMIT $2))",
    "DELETE FROM members WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM members WHERE tenant = $1 AND until_pos IS NOT NULL LIMIT $2))",
    "DELETE FROM groups WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM groups WHERE tenant = $1 AND members <= 0 LIMIT $2))",
    "DELETE FROM answers WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM answers WHERE tenant = $1 LIMIT $2))",
    "DELETE FROM stats_new WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM stats_new WHERE tenant = $1 LIMIT $2))",
    "DELETE FROM stats WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM stats WHERE tenant = $1 LIMIT $2))",
];

/// How far it is.
enum Step {
    More,
    Done,
}

/// Goes on with what nodes that have ended left.
pub(super) async fn run(core: Arc<Core>) {
    loop {
        if let Err(failure) = go_on(&core).await {
            tracing::debug!(
                error = &failure as &dyn std::error::Error,
                "a user cannot be forgotten now"
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn go_on(core: &Core) -> Result<(), Failure> {
    let sql = "SELECT id FROM forgetting ORDER BY id";
    let found = rows(&core.db.client().await?, sql, &[]).await?;
    for row in &found {
        core.forget_rest(row.column(0)?).await?;
    }
    Ok(())
}

impl Core {
    /// Forgets a user. Answers how many messages the inbox had.
    pub(super) async fn forget(&self, key: &InboxKey) -> Result<u64, Failure> {
        let messages = self.retry(|| self.cut_off(key)).await?;
        self.names.forget(key);
        self.notes.forget(key);
        // Tokens that said something of the user must be able to say it again. Other nodes remember theirs: what
        // they would pass over is a token from before, which says of nobody who there is now.
        self.noted.forget_all();
        // Others may be at it, with an inbox that the user had before.
        let sql = "SELECT id FROM forgetting WHERE tenant = $1 AND usr = $2 ORDER BY id";
        let values: pool::Values<'_> = &[&key.tenant.as_str(), &key.user.as_str()];
        let open = rows(&self.db.client().await?, sql, values).await?;
        for row in &open {
            self.forget_rest(row.column(0)?).await?;
        }
        self.metrics.forgotten.increment(1);
        Ok(messages)
    }

    /// Forgets what is a tenant's and no user's. The tenant's row in `tenants` stays: a position is never used twice,
    /// and nodes remember them.
    pub(super) async fn forget_tenant(&self, tenant: &TenantId) -> Result<(), Failure> {
        let client = self.db.client().await?;
        for sql in TENANT_PIECES {
            loop {
                self.check_open()?;
                let gone = execute(&client, sql, &[&tenant.as_str(), &PIECE]).await?;
                if gone < PIECE.cast_unsigned() {
                    break;
                }
            }
        }
        let sql = "SELECT coalesce(max(id), 0) FROM bodies";
        let last: i64 = row(&client, sql, &[]).await?.map_or(Ok(0), |row| row.column(0))?;
        let mut after = 0;
        while after < last {
            self.check_open()?;
            let sql = "SELECT coalesce(max(id), $2) FROM (
                SELECT id FROM bodies WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3) page";
            let page = row(&client, sql, &[&after, &last, &BODIES]).await?;
            let to: i64 = page.map_or(Ok(last), |row| row.column(0))?;
            // One that some inbox still has goes when its users are forgotten.
            let sql = "DELETE FROM bodies b WHERE b.id > $1 AND b.id <= $2 AND b.tenant = $3
                AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.body = b.id)";
            execute(&client, sql, &[&after, &to, &tenant.as_str()]).await?;
            after = to;
        }
        Ok(())
    }

    /// Takes away all by which a user is found.
    async fn cut_off(&self, key: &InboxKey) -> Result<u64, Failure> {
        let (tenant, user) = (key.tenant.as_str(), key.user.as_str());
        let mut client = self.db.client().await?;
        let transaction = pool::begin(&mut client).await?;
        deliver::hold(&transaction, &key.tenant).await?;
        let sql = "SELECT id, kept FROM inboxes WHERE tenant = $1 AND usr = $2 FOR UPDATE";
        let found = row(&transaction, sql, &[&tenant, &user]).await?;
        let (mut inbox, mut messages) = (None, 0);
        if let Some(row) = found {
            let id: i64 = row.column(0)?;
            (inbox, messages) = (Some(id), row.count(1)?);
            let groups: Vec<String> =
                groups_of(&transaction, key).await?.iter().map(group_text).collect();
            let sql = "UPDATE groups SET members = members - 1 WHERE tenant = $1 AND grp = ANY($2)";
            execute(&transaction, sql, &[&tenant, &groups]).await?;
            // A role that only this user carried may say who it was.
            let sql = "DELETE FROM groups WHERE tenant = $1 AND grp = ANY($2) AND members <= 0
                AND grp LIKE 'r:%'";
            execute(&transaction, sql, &[&tenant, &groups]).await?;
            for sql in [
                "DELETE FROM members WHERE inbox = $1",
                "DELETE FROM users WHERE inbox = $1",
                "DELETE FROM inboxes WHERE id = $1",
            ] {
                execute(&transaction, sql, &[&id]).await?;
            }
        }
        disown_channels(&transaction, key).await?;
        let sql = "INSERT INTO forgetting (tenant, usr, inbox, body_last)
            SELECT $1, $2, $3, coalesce(max(id), 0) FROM bodies";
        execute(&transaction, sql, &[&tenant, &user, &inbox]).await?;
        self.commit(transaction).await?;
        Ok(messages)
    }

    /// Goes on with one user to the end, unless this node ends before.
    async fn forget_rest(&self, id: i64) -> Result<(), Failure> {
        loop {
            self.check_open()?;
            if let Step::Done = self.retry(|| self.forget_piece(id)).await? {
                return Ok(());
            }
        }
    }

    async fn forget_piece(&self, id: i64) -> Result<Step, Failure> {
        let mut client = self.db.client().await?;
        let transaction = pool::begin(&mut client).await?;
        let sql = "SELECT tenant, usr, inbox, emptied, body_after, body_last FROM forgetting
            WHERE id = $1 FOR UPDATE";
        let Some(row) = row(&transaction, sql, &[&id]).await? else { return Ok(Step::Done) };
        let key = InboxKey::new(row.id(0)?, row.id(1)?);
        let inbox: Option<i64> = row.column(2)?;
        let (emptied, after, last): (bool, i64, i64) =
            (row.column(3)?, row.column(4)?, row.column(5)?);
        if let (false, Some(inbox)) = (emptied, inbox) {
            if empty(&transaction, inbox).await? {
                let sql = "UPDATE forgetting SET emptied = true WHERE id = $1";
                execute(&transaction, sql, &[&id]).await?;
            }
            self.commit(transaction).await?;
            return Ok(Step::More);
        }
        if after < last {
            let after = name_no_longer(&transaction, &key, (after, last)).await?;
            let sql = "UPDATE forgetting SET body_after = $2 WHERE id = $1";
            execute(&transaction, sql, &[&id, &after]).await?;
            self.commit(transaction).await?;
            return Ok(Step::More);
        }
        let sql = "DELETE FROM answers WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM answers WHERE sender = $1 AND tenant = $2 LIMIT $3))";
        let sender = sender_text(&SenderKey::User(key.user.clone()));
        let values: pool::Values<'_> = &[&sender, &key.tenant.as_str(), &PIECE];
        let gone = execute(&transaction, sql, values).await?;
        let more = gone >= PIECE.cast_unsigned();
        if !more {
            execute(&transaction, "DELETE FROM forgetting WHERE id = $1", &[&id]).await?;
        }
        self.commit(transaction).await?;
        Ok(if more { Step::More } else { Step::Done })
    }
}

/// Channels say no longer that the user made them.
async fn disown_channels(transaction: &Transaction<'_>, key: &InboxKey) -> Result<(), Failure> {
    let (tenant, user) = (key.tenant.as_str(), key.user.as_str());
    let sql = "SELECT id, channel FROM channels
        WHERE tenant = $1 AND channel::jsonb ->> 'created_by' = $2";
    for row in rows(transaction, sql, &[&tenant, &user]).await? {
        let mut channel: Channel =
            serde_json::from_str(row.column(1)?).map_err(Failure::unreadable)?;
        channel.created_by.clear();
        let json = serde_json::to_string(&channel).map_err(Failure::unreadable)?;
        let sql = "UPDATE channels SET channel = $3 WHERE tenant = $1 AND id = $2";
        execute(transaction, sql, &[&tenant, &row.column::<&str>(0)?, &json]).await?;
    }
    Ok(())
}

/// Deletes the next rows that hang on an inbox. Whether nothing hangs on it any more.
async fn empty(transaction: &Transaction<'_>, inbox: i64) -> Result<bool, Failure> {
    let sql = "DELETE FROM messages WHERE inbox = $1 AND seq = ANY(ARRAY(
        SELECT seq FROM messages WHERE inbox = $1 ORDER BY seq LIMIT $2)) RETURNING body";
    let found = rows(transaction, sql, &[&inbox, &PIECE]).await?;
    let bodies: Vec<i64> = found.iter().map(|row| row.column(0)).collect::<Result<_, _>>()?;
    delete_unowned(transaction, &bodies).await?;
    let mut left = PIECE - bodies.len() as i64;
    for table in TABLES {
        if left <= 0 {
            return Ok(false);
        }
        let sql = format!(
            "DELETE FROM {table} WHERE inbox = $1 AND ctid = ANY(ARRAY(
                SELECT ctid FROM {table} WHERE inbox = $1 LIMIT $2))"
        );
        left -= execute(transaction, &sql, &[&inbox, &left]).await?.cast_signed();
    }
    Ok(left > 0)
}

/// An audience of nobody, as a column: of what nobody may ask for any more.
fn nobody() -> Vec<u8> {
    encode(&Audience::users(Vec::new()))
}

/// Deletes those of some bodies that nobody has and no ledger knows.
async fn delete_unowned(transaction: &Transaction<'_>, bodies: &[i64]) -> Result<(), Failure> {
    if bodies.is_empty() {
        return Ok(());
    }
    // Held first and looked at then: of two users who are forgotten at the same time, and were the only ones to
    // have it, the second must see what the first has done.
    let sql = "SELECT id FROM bodies WHERE id = ANY($1) ORDER BY id FOR UPDATE";
    execute(transaction, sql, &[&bodies]).await?;
    let sql = "DELETE FROM bodies b WHERE b.id = ANY($1) AND (b.sender = '' OR b.audience = $2)
        AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.body = b.id)
        AND NOT EXISTS (SELECT 1 FROM broadcasts r WHERE r.tenant = b.tenant AND r.pos = b.pos)";
    execute(transaction, sql, &[&bodies, &nobody()]).await.map(drop)
}

/// A body that the user sent, or was named in.
struct Named {
    id: i64,
    audience: Audience,
    sent: bool,
    waits: bool,
}

/// Takes the user out of the next bodies: as a recipient, and as a sender. Answers up to which one they are
/// done.
async fn name_no_longer(
    transaction: &Transaction<'_>,
    key: &InboxKey,
    (after, last): (i64, i64),
) -> Result<i64, Failure> {
    let sql = "WITH page AS MATERIALIZED (SELECT id, tenant, sender, audience FROM bodies
            WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3)
        SELECT count(*), coalesce(max(id), $2), coalesce(array_agg(id ORDER BY id) FILTER (
            WHERE tenant = $4 AND (sender = $5 OR position($6::bytea IN audience) > 0)), '{}')
        FROM page";
    let sender = sender_text(&SenderKey::User(key.user.clone()));
    let name = rmp_serde::to_vec(&key.user).expect("a text has no failing Serialize");
    let values: pool::Values<'_> = &[&after, &last, &BODIES, &key.tenant.as_str(), &sender, &name];
    let Some(row) = row(transaction, sql, values).await? else { return Ok(last) };
    let (count, to): (i64, i64) = (row.column(0)?, row.column(1)?);
    let found: Vec<i64> = row.column(2)?;
    if !found.is_empty() {
        let found = take(transaction, &found, &sender).await?;
        let again = of_new_inbox(transaction, key, &found).await?;
        change(transaction, &key.user, found, &again).await?;
    }
    Ok(if count < BODIES { last } else { to })
}

/// Holds bodies, so that nobody sends or changes one meanwhile.
async fn take(
    transaction: &Transaction<'_>,
    ids: &[i64],
    sender: &str,
) -> Result<Vec<Named>, Failure> {
    let sql = "SELECT id, audience, sender = $2, state FROM bodies WHERE id = ANY($1)
        ORDER BY id FOR UPDATE";
    let found = rows(transaction, sql, &[&ids, &sender]).await?;
    let named = found.iter().map(|row| {
        let audience = rmp_serde::from_slice(row.column(1)?).map_err(Failure::unreadable)?;
        let waits = row.column::<i16>(3)? == state_code(SentState::Scheduled);
        Ok(Named { id: row.column(0)?, audience, sent: row.column(2)?, waits })
    });
    named.collect()
}

/// Which of some bodies are in an inbox that the user has had since.
async fn of_new_inbox(
    transaction: &Transaction<'_>,
    key: &InboxKey,
    bodies: &[Named],
) -> Result<Vec<i64>, Failure> {
    let ids: Vec<i64> = bodies.iter().map(|body| body.id).collect();
    let sql = "SELECT m.body FROM inboxes i JOIN messages m ON m.inbox = i.id AND m.body = ANY($3)
        WHERE i.tenant = $1 AND i.usr = $2";
    let values: pool::Values<'_> = &[&key.tenant.as_str(), &key.user.as_str(), &ids];
    rows(transaction, sql, values).await?.iter().map(|row| row.column(0)).collect()
}

async fn change(
    transaction: &Transaction<'_>,
    user: &UserId,
    bodies: Vec<Named>,
    again: &[i64],
) -> Result<(), Failure> {
    let mut gone = Vec::new();
    let mut changed = (vec![], vec![], vec![], vec![]);
    for body in bodies {
        let audience = match body.audience {
            // Nobody may ask any more whom it went to.
            _ if body.sent && !body.waits => Audience::users(Vec::new()),
            Audience::Some { users, groups } if !again.contains(&body.id) => Audience::Some {
                users: users.iter().filter(|other| *other != user).cloned().collect(),
                groups,
            },
            audience => audience,
        };
        let for_nobody = matches!(
            &audience,
            Audience::Some { users, groups } if users.is_empty() && groups.is_empty()
        );
        if body.waits && (body.sent || for_nobody) {
            gone.push(body.id);
            continue;
        }
        changed.0.push(body.id);
        changed.1.push(encode(&audience));
        changed.2.push(i32::try_from(named(&audience)).unwrap_or(i32::MAX));
        changed.3.push(body.sent);
    }
    execute(transaction, "DELETE FROM bodies WHERE id = ANY($1)", &[&gone]).await?;
    let sql = "UPDATE bodies b SET audience = k.audience, recipients = k.recipients,
            sender = CASE WHEN k.sent THEN '' ELSE b.sender END
        FROM unnest($1::bigint[], $2::bytea[], $3::integer[], $4::boolean[])
            AS k (id, audience, recipients, sent) WHERE b.id = k.id";
    let (ids, audiences, recipients, sent) = &changed;
    execute(transaction, sql, &[ids, audiences, recipients, sent]).await?;
    delete_unowned(transaction, ids).await
}
