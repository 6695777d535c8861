//! The contract of [`delivery::store::Ledger`]: what an open store with a clock of its own needs.

pub(crate) mod answers;
pub(crate) mod changes;
pub(crate) mod forgotten;
pub(crate) mod receipts;
pub(crate) mod scheduled;
pub(crate) mod sent;
pub(crate) mod stats;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use delivery::{
    Fanout, InboxKey, Store,
    clock::WallClock,
    store::{Batch, Ledger, ListQuery, Outgoing, Sort, StatusFilter, StoredAnswer},
};
use protocol::{Body, MessageFields, MessageId, TenantId, Time};

use super::{
    Backend,
    fixture::{Published, message, outgoing, title},
};

/// What a store is that also keeps a ledger.
pub(crate) trait Books: Store + Ledger {}

impl<T: Store + Ledger> Books for T {}

/// A place for a store with a ledger.
pub(crate) trait LedgerBackend: Backend {
    /// As [`Backend::open`], with this clock.
    fn open_books(
        &self,
        fanout: Arc<dyn Fanout>,
        clock: WallClock,
    ) -> impl Future<Output = Arc<dyn Books>> + Send;
}

/// The system's clock, set forward or back.
#[derive(Clone, Default)]
pub(crate) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(crate) fn step(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> Time {
        Time::from_millis(delivery::clock::now().millis() + self.0.load(Ordering::SeqCst))
    }

    /// A moment so far from now, in milliseconds.
    pub(crate) fn later(&self, millis: i64) -> Time {
        Time::from_millis(self.now().millis() + millis)
    }

    fn wall(&self) -> WallClock {
        let clock = self.clone();
        WallClock::new(move || clock.now())
    }
}

pub(crate) const SECOND: i64 = 1_000;
pub(crate) const HOUR: i64 = 3_600 * SECOND;

/// An open store with a ledger.
pub(crate) struct LedgerFixture<B> {
    pub(crate) backend: B,
    pub(crate) books: Arc<dyn Books>,
    pub(crate) published: Arc<Published>,
    pub(crate) clock: TestClock,
}

impl<B: LedgerBackend> LedgerFixture<B> {
    pub(crate) async fn new(backend: B) -> Self {
        let (published, clock) = (Arc::new(Published::default()), TestClock::default());
        let books = backend.open_books(published.clone(), clock.wall()).await;
        Self { backend, books, published, clock }
    }

    /// Ends the store in order and opens it again.
    pub(crate) async fn reopen(&mut self) {
        self.books.close().await;
        self.books = self.backend.open_books(self.published.clone(), self.clock.wall()).await;
    }

    /// Goes on with what a new process would find after a kill, see `Fixture::kill`; whether it was
    /// killed.
    pub(crate) async fn kill(&mut self) -> bool {
        let Some(killed) = self.backend.killed() else { return false };
        self.books = killed.open_books(self.published.clone(), self.clock.wall()).await;
        self.backend = killed;
        true
    }

    pub(crate) async fn append(&self, items: Vec<Outgoing>) {
        self.books.append(items.into()).await.unwrap();
    }

    pub(crate) async fn send(&self, to: &[&InboxKey], title: &str) -> MessageId {
        let fields = message(title);
        self.append(vec![outgoing(to, &fields)]).await;
        fields.id
    }

    /// Stores a message that is due so far from now, in milliseconds.
    pub(crate) async fn schedule(&self, to: &[&InboxKey], title: &str, millis: i64) -> MessageId {
        self.schedule_as(to, &message(title), millis).await
    }

    pub(crate) async fn schedule_as(
        &self,
        to: &[&InboxKey],
        fields: &MessageFields,
        millis: i64,
    ) -> MessageId {
        let item = at(outgoing(to, fields), self.clock.later(millis));
        self.append(vec![item]).await;
        fields.id.clone()
    }

    /// Stores a message and the answer to a key.
    pub(crate) async fn send_once(&self, to: &InboxKey, title: &str, answer: &StoredAnswer) {
        let items = vec![outgoing(&[to], &message(title))];
        self.books.append(Batch { items, answer: Some(answer.clone()) }).await.unwrap();
    }

    /// Titles of everything that is listed, oldest first.
    pub(crate) async fn titles(&self, inbox: &InboxKey) -> Vec<String> {
        let query = ListQuery {
            status: StatusFilter::All,
            sort: Sort::Oldest,
            size: 100_000,
            ..ListQuery::default()
        };
        let page = self.books.list(inbox, query).await.unwrap();
        page.messages.iter().map(|message| title(&message.body)).collect()
    }

    /// Waits until so many messages are listed.
    pub(crate) async fn arrived(&self, inbox: &InboxKey, count: usize) -> Vec<String> {
        let start = std::time::Instant::now();
        loop {
            let titles = self.titles(inbox).await;
            if titles.len() >= count {
                return titles;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{} of {count}", titles.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a first message that is due later has come: what was due before it and is not
    /// there will not come.
    pub(crate) async fn settled(&self, bell: &str) {
        let bell = super::fixture::inbox(bell);
        let before = self.titles(&bell).await.len();
        self.schedule(&[&bell], "bell", 1).await;
        self.arrived(&bell, before + 1).await;
    }
}

/// The same at a time.
pub(crate) fn at(outgoing: Outgoing, at: Time) -> Outgoing {
    Outgoing { scheduled_at: Some(at), ..outgoing }
}

pub(crate) fn tenant() -> TenantId {
    TenantId::default()
}

/// Another content for a message.
pub(crate) fn edited(fields: &MessageFields, title: &str) -> Arc<Body> {
    Arc::new(Body::new(&MessageFields { title: title.to_owned(), ..fields.clone() }))
}

/// Makes a test of every function of the suite.
macro_rules! ledger_suite {
    ($module:ident, $backend:ty) => {
        mod $module {
            use super::*;

            contract::ledger_suite!(@tests $backend,
                answers: an_answer_is_found_at_once_and_by_its_owner_only,
                answers: an_answer_survives_and_ends_after_a_day,
                answers: an_answer_is_there_if_and_only_if_its_messages_are,
                changes: a_sent_message_is_edited_and_recalled,
                changes: an_edit_over_what_is_not_there_any_more_changes_nothing,
                changes: a_recall_is_published_once,
                changes: what_is_said_now_is_found_wherever_it_stands,
                changes: a_scheduled_message_is_edited_and_cancelled,
                changes: concurrent_changes_of_one_message_are_in_one_order,
                changes: a_dropped_future_leaves_no_lock_behind,
                forgotten: what_waits_for_it_or_from_it_does_not_come,
                forgotten: sums_stay,
                receipts: recipients_come_in_order_each_once_in_pages,
                receipts: everybody_who_was_known_is_a_recipient,
                scheduled: a_message_is_sent_at_its_time_once,
                scheduled: a_time_that_has_passed_is_now,
                scheduled: due_at_once_go_by_priority,
                scheduled: a_million_would_be_sent_in_pages,
                scheduled: what_is_due_while_the_store_is_closed_is_sent_when_it_opens,
                scheduled: a_kill_at_any_point_sends_it_once,
                scheduled: a_cancellation_and_the_time_decide_once,
                scheduled: what_expires_before_its_time_is_never_sent,
                scheduled: the_clock_may_be_set,
                scheduled: it_reaches_who_is_there_when_it_is_sent,
                scheduled: what_waits_is_listed_soonest_first_each_once,
                sent: what_was_sent_is_known_to_its_tenant,
                sent: nothing_is_lost_or_doubled_by_reopening,
                sent: what_a_sender_has_sent_comes_in_pages_each_once,
                stats: messages_are_counted_by_what_they_are,
                stats: nothing_is_counted_twice_after_a_kill,
            );
        }
    };
    (@tests $backend:ty, $($area:ident: $test:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                contract::ledger::$area::$test(<$backend as contract::Backend>::new()).await;
            }
        )*
    };
}
pub(crate) use ledger_suite;
