//! Statistics: how many messages were sent in an hour, and what became of them since.
//!
//! Messages are counted where they are written to `ledger.db`, in the same transaction, so never
//! twice. What happens to them is told by the inboxes' workers, for each recipient: it is added up
//! in memory and written with the next batch. The store may tell a happening twice (see
//! [`crate::store::Witness`]), and what was only in memory is lost by a crash.

use std::{borrow::Cow, collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use parking_lot::Mutex;
use protocol::{Body, Seq, TenantId, Time};
use rusqlite::{Connection, params};

use super::{
    super::record::MessageRecord,
    metrics::LedgerMetrics,
    queue::{Item, Queued},
    reread::{self, Reread},
};
use crate::{
    InboxKey,
    store::{Happened, Happening},
};

/// Combinations of service, template, type and channel that are counted apart, for each tenant and
/// hour: types are words of the senders' choice. What goes beyond is counted under [`OTHER`], by
/// service up to twice as many, then all together. Bounds a year of one tenant to some gigabytes.
const KEYS_MAX: u32 = 4_096;

/// The same for what is added up in memory until it is written, over all tenants and hours; what
/// goes beyond twice as many is not counted.
const PENDING_MAX: usize = 4_096;

/// Tenants and hours whose number of rows is kept in mind. A hundred bytes each.
const KNOWN_MAX: usize = 1_024;

/// The name of what is not counted apart.
const OTHER: &str = "(other)";

const HOUR_MS: i64 = 3_600_000;

/// The hour of a moment.
pub(super) const fn hour_of(at: Time) -> i64 {
    at.millis().div_euclid(HOUR_MS)
}

/// When an hour begins.
pub(super) fn hour_begin(hour: i64) -> Time {
    Time::from_millis(hour.saturating_mul(HOUR_MS))
}

/// What is counted apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key<'a> {
    hour: i64,
    tenant: TenantId,
    service: Cow<'a, str>,
    template: Cow<'a, str>,
    message_type: Cow<'a, str>,
    channel: Cow<'a, str>,
}

impl<'a> Key<'a> {
    fn new(tenant: &TenantId, body: &'a Body, sent_at: Time) -> Self {
        let facts = body.facts();
        let text = |text: Option<&'a str>| Cow::Borrowed(text.unwrap_or_default());
        Self {
            hour: hour_of(sent_at),
            tenant: tenant.clone(),
            service: text(
                facts.sender_info.as_ref().and_then(|sender| sender.service_id.as_deref()),
            ),
            template: text(facts.template_id.as_deref()),
            message_type: Cow::Borrowed(&facts.message_type),
            channel: text(facts.channel_id.as_ref().map(protocol::ChannelId::as_str)),
        }
    }

    fn owned(self) -> Key<'static> {
        let owned = |text: Cow<'a, str>| Cow::Owned(text.into_owned());
        Key {
            hour: self.hour,
            tenant: self.tenant,
            service: owned(self.service),
            template: owned(self.template),
            message_type: owned(self.message_type),
            channel: owned(self.channel),
        }
    }

    /// Where it is counted when there are too many apart.
    fn other(&self, with_service: bool) -> Self {
        let other = Cow::Borrowed(OTHER);
        Self {
            hour: self.hour,
            tenant: self.tenant.clone(),
            service: if with_service { self.service.clone() } else { other.clone() },
            template: other.clone(),
            message_type: other.clone(),
            channel: other,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    sent: i64,
    delivered: i64,
    read: i64,
    read_ms: i64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.read += other.read;
        self.read_ms += other.read_ms;
    }
}

/// What was counted and is not written yet.
#[derive(Default)]
pub(super) struct Tally<'a>(HashMap<Key<'a>, Counts>);

impl<'a> Tally<'a> {
    /// Whether there was room for it.
    fn add(&mut self, key: Key<'a>, counts: Counts) -> bool {
        if let Some(known) = self.0.get_mut(&key) {
            known.add(counts);
            return true;
        }
        if self.0.len() >= 2 * PENDING_MAX {
            return false;
        }
        let key = if self.0.len() >= PENDING_MAX { key.other(true) } else { key };
        self.0.entry(key).or_default().add(counts);
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The messages among items that are about to be written. A batch has fewer than there is room
    /// for.
    pub(super) fn of_sent(items: impl Iterator<Item = &'a Queued>) -> Self {
        let mut tally = Self::default();
        for queued in items {
            if let Item::Sent(record) = &queued.item {
                let MessageRecord { tenant, body, at, .. } = &**record;
                let sent_at = body.facts().created_at.unwrap_or(*at);
                let one = Counts { sent: 1, ..Counts::default() };
                tally.add(Key::new(tenant, body, sent_at), one);
            }
        }
        tally
    }
}

/// What happens to messages, added up until it is written.
pub(super) struct Stats {
    state: Mutex<State>,
    metrics: Arc<LedgerMetrics>,
}

struct State {
    tally: Tally<'static>,
    reread: Reread,
}

impl Stats {
    pub(super) fn new(reread: Reread, metrics: Arc<LedgerMetrics>) -> Self {
        let state = State { tally: Tally::default(), reread };
        Self { state: Mutex::new(state), metrics }
    }

    /// Counts. A message counts as read once for each recipient: reading it again after it was
    /// marked unread does not count, as far as [`Reread`] reaches. Archiving is not reading.
    /// Whether something waits to be written.
    pub(super) fn count(&self, happenings: &[Happening]) -> bool {
        let mut state = self.state.lock();
        // A batch of one inbox is mostly of different messages, one of a broadcast of one.
        for happening in happenings {
            let sent_at = happening.body.facts().created_at.unwrap_or(happening.at);
            let mut counts = Counts::default();
            match happening.what {
                Happened::Delivered { first: true } => {
                    counts.delivered = 1;
                    self.metrics.outcome.delivered(1);
                }
                Happened::Read if !state.reread.contains(happening) => {
                    let took = happening.at.millis() - sent_at.millis();
                    counts.read = 1;
                    // A clock that was set back must not make time negative.
                    counts.read_ms = took.max(0);
                    let took = Duration::from_millis(counts.read_ms.cast_unsigned());
                    self.metrics.outcome.read(1, took);
                }
                Happened::Unread => state.reread.insert(happening),
                Happened::Delivered { first: false }
                | Happened::Acked { .. }
                | Happened::Read
                | Happened::Archived
                | Happened::Pressed(_) => {}
            }
            if counts != Counts::default() {
                let key = Key::new(&happening.inbox.tenant, &happening.body, sent_at).owned();
                if !state.tally.add(key, counts) {
                    self.metrics.stats_lost.increment(1);
                }
            }
        }
        !state.tally.is_empty() || state.reread.changed()
    }

    /// Forgets the places of an inbox up to its head. Whether something waits to be written.
    pub(super) fn forget(&self, key: &InboxKey, head: Seq) -> bool {
        self.state.lock().reread.forget(key, head)
    }

    /// Everything that waits to be written.
    pub(super) fn take(&self) -> (Tally<'static>, Vec<reread::Change>) {
        let mut state = self.state.lock();
        (std::mem::take(&mut state.tally), state.reread.take())
    }

    /// It could not be written.
    pub(super) fn put_back(&self, tally: Tally<'static>, reread: Vec<reread::Change>) {
        let mut state = self.state.lock();
        for (key, counts) in tally.0 {
            state.tally.add(key, counts);
        }
        state.reread.put_back(reread);
    }
}

/// How many rows tenants have for an hour, as far as that is known.
#[derive(Default)]
pub(super) struct Rows(HashMap<(i64, TenantId), u32>);

impl Rows {
    /// After a transaction that was not written.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    fn get(&mut self, db: &Connection, key: &Key<'_>) -> rusqlite::Result<&mut u32> {
        if self.0.len() >= KNOWN_MAX {
            self.0.clear();
        }
        let place = (key.hour, key.tenant.clone());
        if !self.0.contains_key(&place) {
            let count = db
                .prepare_cached("SELECT count(*) FROM stats WHERE hour = ?1 AND tenant = ?2")?
                .query_row(params![key.hour, key.tenant.as_str()], |row| row.get(0))?;
            self.0.insert(place.clone(), count);
        }
        Ok(self.0.get_mut(&place).expect("inserted above"))
    }
}

/// Adds what was counted to the rows of the file.
pub(super) fn write(db: &Connection, tally: &Tally<'_>, rows: &mut Rows) -> rusqlite::Result<()> {
    for (key, counts) in &tally.0 {
        if update(db, key, counts)? {
            continue;
        }
        let known = rows.get(db, key)?;
        if *known < KEYS_MAX {
            *known += 1;
            insert(db, key, counts)?;
            continue;
        }
        let other = key.other(*known < 2 * KEYS_MAX);
        if !update(db, &other, counts)? {
            *known += 1;
            insert(db, &other, counts)?;
        }
    }
    Ok(())
}

fn update(db: &Connection, key: &Key<'_>, counts: &Counts) -> rusqlite::Result<bool> {
    let sql = "UPDATE stats SET sent = sent + ?7, delivered = delivered + ?8, read = read + ?9,
         read_ms = read_ms + ?10 WHERE hour = ?1 AND tenant = ?2 AND service = ?3
         AND template = ?4 AND message_type = ?5 AND channel = ?6";
    Ok(execute(db, sql, key, counts)? > 0)
}

fn insert(db: &Connection, key: &Key<'_>, counts: &Counts) -> rusqlite::Result<()> {
    let sql = "INSERT INTO stats
         (hour, tenant, service, template, message_type, channel, sent, delivered, read, read_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    execute(db, sql, key, counts).map(drop)
}

fn execute(db: &Connection, sql: &str, key: &Key<'_>, counts: &Counts) -> rusqlite::Result<usize> {
    db.prepare_cached(sql)?.execute(params![
        key.hour,
        key.tenant.as_str(),
        key.service,
        key.template,
        key.message_type,
        key.channel,
        counts.sent,
        counts.delivered,
        counts.read,
        counts.read_ms,
    ])
}
