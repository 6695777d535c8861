//! What tenants have used today: counted in memory, written down every few seconds. What other nodes have
//! written down is added to it.
//!
//! One lock for all tenants: it is held for as long as two numbers take to be added.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use protocol::{TenantId, Time};

use super::tenant::{
    Quota, QuotaReached, Quotas, Spent, TENANTS_COUNTED_MAX, Usage, begin_of, day_of, left_of_day,
};

#[derive(Clone, Copy, Default)]
struct Used {
    /// Through this node.
    messages: u64,
    recipients: u64,
    /// Through all others, as far as it is known here.
    messages_elsewhere: u64,
    recipients_elsewhere: u64,
    /// Something through this node is not written down.
    dirty: bool,
}

impl Used {
    fn all_messages(&self) -> u64 {
        self.messages.saturating_add(self.messages_elsewhere)
    }

    fn all_recipients(&self) -> u64 {
        self.recipients.saturating_add(self.recipients_elsewhere)
    }
}

#[derive(Default)]
struct Today {
    day: i64,
    used: HashMap<TenantId, Used>,
}

impl Today {
    /// A new day begins with nothing used. A clock that was set back does not bring one back.
    fn at(&mut self, day: i64) {
        if day > self.day {
            (self.day, self.used) = (day, HashMap::new());
        }
    }
}

/// What one tenant has used of a day.
pub(super) struct UsageRow {
    pub(super) tenant: TenantId,
    pub(super) day: i64,
    pub(super) messages: u64,
    pub(super) recipients: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    today: Mutex<Today>,
    /// The writer was told that there is something to write.
    told: AtomicBool,
}

impl Counters {
    /// What this node had written down before it was started anew; rows of other days are void.
    pub(super) fn restore(&self, rows: Vec<UsageRow>, now: Time) {
        let mut today = self.today.lock();
        today.at(day_of(now));
        let day = today.day;
        for UsageRow { tenant, messages, recipients, .. } in
            rows.into_iter().filter(|row| row.day == day)
        {
            today.used.insert(tenant, Used { messages, recipients, ..Used::default() });
        }
    }

    /// What other nodes have written down, in place of what was known of them; rows of other days are
    /// void.
    pub(super) fn learn(&self, rows: Vec<UsageRow>, now: Time) {
        let mut today = self.today.lock();
        today.at(day_of(now));
        let day = today.day;
        for UsageRow { tenant, messages, recipients, .. } in
            rows.into_iter().filter(|row| row.day == day)
        {
            let used = today.used.entry(tenant).or_default();
            (used.messages_elsewhere, used.recipients_elsewhere) = (messages, recipients);
        }
    }

    /// Uses one message with so many recipients, if the quotas leave room for all of it.
    pub(super) fn spend(
        &self,
        tenant: &TenantId,
        quotas: Option<&Quotas>,
        recipients: u64,
        now: Time,
    ) -> Result<Spent, QuotaReached> {
        let mut today = self.today.lock();
        today.at(day_of(now));
        let spent = Spent { day: today.day, recipients };
        let room = today.used.len() < TENANTS_COUNTED_MAX || quotas.is_some();
        let used = match today.used.get_mut(tenant) {
            Some(used) => used,
            None if room => today.used.entry(tenant.clone()).or_default(),
            None => return Ok(spent),
        };
        let check = |quota, limit: Option<u64>, used: u64, more: u64| match limit {
            Some(limit) if used.saturating_add(more) > limit => {
                Err(QuotaReached { quota, limit, used, retry_after: left_of_day(now) })
            }
            Some(_) | None => Ok(()),
        };
        if let Some(quotas) = quotas {
            check(Quota::MessagesPerDay, quotas.messages_per_day, used.all_messages(), 1)?;
            let all = used.all_recipients();
            check(Quota::RecipientsPerDay, quotas.recipients_per_day, all, recipients)?;
        }
        used.messages += 1;
        used.recipients = used.recipients.saturating_add(recipients);
        used.dirty = true;
        Ok(spent)
    }

    /// What was spent was not used after all. Not across midnight: that day is over.
    pub(super) fn give_back(&self, tenant: &TenantId, spent: Spent) {
        let mut today = self.today.lock();
        if today.day == spent.day
            && let Some(used) = today.used.get_mut(tenant)
        {
            used.messages = used.messages.saturating_sub(1);
            used.recipients = used.recipients.saturating_sub(spent.recipients);
            used.dirty = true;
        }
    }

    pub(super) fn usage(&self, tenant: &TenantId, now: Time) -> Usage {
        let mut today = self.today.lock();
        today.at(day_of(now));
        let used = today.used.get(tenant).copied().unwrap_or_default();
        Usage {
            since: begin_of(today.day),
            messages: used.all_messages(),
            recipients: used.all_recipients(),
        }
    }

    /// A tenant is deleted.
    pub(super) fn forget(&self, tenant: &TenantId) {
        self.today.lock().used.remove(tenant);
    }

    /// Tenants that have used something today.
    pub(super) fn tenants(&self, now: Time) -> Vec<TenantId> {
        let mut today = self.today.lock();
        today.at(day_of(now));
        today.used.keys().cloned().collect()
    }

    /// Whether the writer has yet to be told that there is something to write.
    pub(super) fn tell(&self) -> bool {
        !self.told.swap(true, Ordering::AcqRel)
    }

    /// The writer could not be told.
    pub(super) fn untold(&self) {
        self.told.store(false, Ordering::Release);
    }

    /// What was taken could not be written down: it is taken again the next time.
    pub(super) fn not_written(&self, rows: &[UsageRow]) {
        let mut today = self.today.lock();
        let day = today.day;
        for row in rows.iter().filter(|row| row.day == day) {
            if let Some(used) = today.used.get_mut(&row.tenant) {
                used.dirty = true;
            }
        }
    }

    /// What has changed here since the last time.
    pub(super) fn take_dirty(&self) -> Vec<UsageRow> {
        // Before looking: who counts from here on tells the writer again.
        self.untold();
        let mut today = self.today.lock();
        let day = today.day;
        let dirty = today.used.iter_mut().filter(|(_, used)| used.dirty);
        dirty
            .map(|(tenant, used)| {
                used.dirty = false;
                let Used { messages, recipients, .. } = *used;
                UsageRow { tenant: tenant.clone(), day, messages, recipients }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600 * 1_000;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    fn at(day: i64, millis: i64) -> Time {
        Time::from_millis(day * DAY + millis)
    }

    fn most(messages: u64, recipients: u64) -> Quotas {
        Quotas {
            messages_per_day: Some(messages),
            recipients_per_day: Some(recipients),
            ..Quotas::default()
        }
    }

    #[test]
    fn quotas_are_exact_and_begin_anew_at_midnight() {
        let (counters, acme, quotas) = (Counters::default(), tenant("acme"), most(2, 5));
        let spend = |recipients, now| counters.spend(&acme, Some(&quotas), recipients, now);
        spend(3, at(10, 0)).unwrap();
        let refused = spend(3, at(10, 1)).unwrap_err();
        assert_eq!((refused.quota, refused.limit, refused.used), (Quota::RecipientsPerDay, 5, 3));
        spend(2, at(10, DAY - 1)).unwrap();
        let refused = spend(0, at(10, DAY - 90_000)).unwrap_err();
        assert_eq!((refused.quota, refused.used), (Quota::MessagesPerDay, 2));
        assert_eq!(refused.retry_after.as_secs(), 90);
        assert_eq!(spend(1, at(10, DAY - 1)).unwrap_err().retry_after.as_secs(), 1);
        let spent = spend(5, at(11, 0)).unwrap();
        assert_eq!(counters.usage(&acme, at(11, 5)).since, at(11, 0));
        // A clock that is set back brings no day back.
        assert!(spend(1, at(10, 0)).is_err());
        counters.give_back(&acme, spent);
        assert_eq!(counters.usage(&acme, at(11, 6)).messages, 0);
        let spent = spend(1, at(11, 7)).unwrap();
        assert_eq!(counters.usage(&acme, at(12, 0)).recipients, 0);
        counters.give_back(&acme, spent);
        assert_eq!(counters.usage(&acme, at(12, 0)).recipients, 0);
        spend(u64::MAX, at(12, 0)).unwrap_err();
        counters.spend(&acme, None, u64::MAX, at(12, 0)).unwrap();
        counters.spend(&acme, None, u64::MAX, at(12, 0)).unwrap();
    }

    #[test]
    fn what_was_written_today_is_what_a_new_process_begins_with() {
        let counters = Counters::default();
        counters.spend(&tenant("a"), None, 7, at(10, 0)).unwrap();
        counters.spend(&tenant("b"), None, 1, at(10, 0)).unwrap();
        assert!(counters.tell() && !counters.tell(), "told once until it was looked at");
        let rows = counters.take_dirty();
        assert_eq!(rows.len(), 2);
        assert!(counters.take_dirty().is_empty() && counters.tell());
        let next = Counters::default();
        next.restore(rows, at(10, DAY / 2));
        assert_eq!(next.usage(&tenant("a"), at(10, DAY / 2)).recipients, 7);
        assert!(next.take_dirty().is_empty());
        let rows = vec![UsageRow { tenant: tenant("a"), day: 10, messages: 1, recipients: 7 }];
        let later = Counters::default();
        later.restore(rows, at(11, 0));
        assert_eq!(later.usage(&tenant("a"), at(11, 0)).messages, 0);
    }

    #[test]
    fn what_others_used_counts_here_and_is_not_written_again() {
        let (counters, acme, quotas) = (Counters::default(), tenant("acme"), most(5, 50));
        let elsewhere = |messages, day| UsageRow {
            tenant: tenant("acme"),
            day,
            messages,
            recipients: 10 * messages,
        };
        counters.spend(&acme, Some(&quotas), 10, at(10, 0)).unwrap();
        counters.learn(vec![elsewhere(1, 10), elsewhere(40, 9)], at(10, 0));
        assert_eq!(counters.usage(&acme, at(10, 0)).recipients, 20);
        counters.learn(vec![elsewhere(4, 10)], at(10, 0));
        let refused = counters.spend(&acme, Some(&quotas), 0, at(10, 0)).unwrap_err();
        assert_eq!((refused.quota, refused.used), (Quota::MessagesPerDay, 5));
        let rows = counters.take_dirty();
        assert_eq!((rows[0].messages, rows[0].recipients), (1, 10));
        counters.not_written(&rows);
        assert_eq!(counters.take_dirty().len(), 1);
        counters.spend(&acme, Some(&quotas), 50, at(11, 0)).unwrap();
    }

    #[test]
    fn tenants_beyond_those_that_are_counted_are_served() {
        let counters = Counters::default();
        for n in 0..TENANTS_COUNTED_MAX {
            counters.spend(&tenant(&n.to_string()), None, 1, at(1, 0)).unwrap();
        }
        let late = tenant("late");
        counters.spend(&late, None, 1, at(1, 0)).unwrap();
        assert_eq!(counters.usage(&late, at(1, 0)).messages, 0);
        let quotas = most(1, 1);
        counters.spend(&late, Some(&quotas), 1, at(1, 0)).unwrap();
        counters.spend(&late, Some(&quotas), 1, at(1, 0)).unwrap_err();
    }
}
