//! Keeps this node's lease and shares, and looks at what other nodes do. A thread of its own with a
//! connection of its own: neither a full runtime nor a slow commit may cost the lease.

use std::{
    sync::{Arc, Weak, mpsc},
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    Timing,
    rows::{self, Revision},
    shares::{self, ShareSet},
};
use crate::{
    sql::{Database, SqlError},
    webhook::{Inner, WebhookError, deliveries},
};

/// How long a node that ends waits for what was broken off, before it leaves its shares to the lease.
const END_MAX: Duration = Duration::from_secs(2);

/// What the keeper is told.
pub(in crate::webhook) enum Told {
    /// It may have something to do.
    Look,
    /// The node ends.
    End,
}

/// This node among the others, while it has a lease.
struct Node {
    /// Made up for each lease, and not the configured name: two nodes that were given the same, or one
    /// that comes back, would pass for the one that had the lease.
    id: String,
    /// When the renewal began that went well last.
    renewed: Instant,
    /// What the database says is this node's, including what it is about to let go of.
    held: ShareSet,
    /// It was not heard what came of a change: the database is to be asked what is held.
    unsure: bool,
    /// What of it is sent for: what waited for these is known.
    ready: ShareSet,
    leaving: bool,
}

/// Whoever tells the keeper.
pub(in crate::webhook) struct KeeperHandle {
    told: mpsc::Sender<Told>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl KeeperHandle {
    /// A keeper that has ended need not be told.
    pub(in crate::webhook) fn tell(&self, told: Told) {
        let _ = self.told.send(told);
    }

    /// Waits until everything is given back.
    pub(in crate::webhook) fn end(&self) {
        self.tell(Told::End);
        if let Some(thread) = self.thread.lock().take() {
            // It has nothing to tell that could be acted on.
            let _ = thread.join();
        }
    }
}

/// See the module.
pub(in crate::webhook) struct Keeper {
    database: Database,
    timing: Timing,
    node: Option<Node>,
    seen: Revision,
    /// When it was last asked who is there.
    members: Option<Instant>,
    blind: bool,
}

impl Keeper {
    pub(in crate::webhook) fn new(database: Database, timing: Timing) -> Self {
        let seen = Revision::default();
        Self { database, timing, node: None, seen, members: None, blind: false }
    }

    /// Keeps on until it is told to end, or nobody has the webhooks any more, as after a crash: then the
    /// lease runs out.
    pub(in crate::webhook) fn begin(
        mut self,
        inner: impl FnOnce(KeeperHandle) -> Arc<Inner>,
    ) -> Result<Arc<Inner>, WebhookError> {
        let (tell, told) = mpsc::channel();
        let inner = inner(KeeperHandle { told: tell, thread: Mutex::default() });
        self.look(&inner)?;
        let weak = Arc::downgrade(&inner);
        let thread = thread::Builder::new()
            .name("webhooks-lease".to_owned())
            .spawn(move || self.run(&weak, &told))?;
        if let Some(keeper) = &inner.keeper {
            *keeper.thread.lock() = Some(thread);
        }
        Ok(inner)
    }

    fn run(&mut self, inner: &Weak<Inner>, told: &mpsc::Receiver<Told>) {
        loop {
            let told = told.recv_timeout(self.timing.look);
            let Some(inner) = inner.upgrade() else { return };
            match told {
                Ok(Told::Look) | Err(mpsc::RecvTimeoutError::Timeout) => self.step(&inner),
                Ok(Told::End) => return self.end(&inner),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn step(&mut self, inner: &Arc<Inner>) {
        let kept = self.keep(inner);
        let done = kept.and_then(|()| self.look(inner));
        match (&done, self.blind) {
            (Err(error), false) => tracing::warn!(
                error = error as &dyn std::error::Error,
                "webhooks of other nodes cannot be seen; what is sent ends with the lease"
            ),
            (Ok(()), true) => tracing::info!("webhooks of other nodes can be seen again"),
            (Ok(()), false) | (Err(_), true) => {}
        }
        self.blind = done.is_err();
        if self.blind {
            inner.metrics.look_errors.increment(1);
        }
        let shares = self.node.as_ref().map_or(0, |node| node.held.len());
        inner.metrics.shares.set(shares as f64);
    }

    /// Keeps the lease, and what it should have.
    fn keep(&mut self, inner: &Arc<Inner>) -> Result<(), WebhookError> {
        if self.node.is_some() && !inner.tenure.lasts() {
            self.lose(inner);
        }
        let Some(node) = &mut self.node else {
            return if inner.is_sending() { self.join(inner) } else { Ok(()) };
        };
        if node.renewed.elapsed() >= self.timing.renew {
            let began = Instant::now();
            if !rows::renew(&mut self.database, &node.id, self.timing.lease)? {
                self.lose(inner);
                return Ok(());
            }
            node.renewed = began;
            if !inner.tenure.renew(began + self.timing.lease - self.timing.margin) {
                // It was over in between, and what waits was forgotten.
                (node.ready, self.members) = (ShareSet::default(), None);
                inner.tenure.set(node.ready);
            }
        }
        if !inner.is_sending() && !node.leaving {
            rows::leave(&mut self.database, &node.id)?;
            (node.leaving, self.members) = (true, None);
        }
        // Whoever leaves lets go of each share as soon as it can.
        let often = if node.leaving { Duration::ZERO } else { self.timing.members };
        if self.members.is_none_or(|at| at.elapsed() >= often) {
            self.members = Some(Instant::now());
            self.balance(inner)?;
        }
        Ok(())
    }

    fn join(&mut self, inner: &Arc<Inner>) -> Result<(), WebhookError> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let renewed = Instant::now();
        rows::join(&mut self.database, &id, self.timing.lease)?;
        inner.tenure.begin(renewed + self.timing.lease - self.timing.margin);
        let (held, ready) = (ShareSet::default(), ShareSet::default());
        self.node = Some(Node { id, renewed, held, unsure: false, ready, leaving: false });
        self.members = None;
        Ok(())
    }

    /// Others may have what this node had.
    fn lose(&mut self, inner: &Arc<Inner>) {
        inner.tenure.end();
        self.node = None;
        inner.metrics.leases_lost.increment(1);
        tracing::warn!("the lease to send webhooks has ended; it is asked for anew");
    }

    /// Lets go of what others should have, and takes what this node should.
    fn balance(&mut self, inner: &Arc<Inner>) -> Result<(), WebhookError> {
        let Some(node) = &mut self.node else { return Ok(()) };
        if node.unsure {
            node.held = rows::held(&mut self.database, &node.id)?;
            node.unsure = false;
        }
        let live = rows::live(&mut self.database)?;
        let wanted = shares::wanted(&node.id, &live);
        // First nothing more is begun, then it is looked at what is under way.
        node.ready = node.ready.and(&wanted);
        inner.tenure.set(node.ready);
        let foreign = node.held.without(&wanted).without(&inner.busy_shares());
        if !foreign.is_empty() {
            node.unsure = true;
            rows::release(&mut self.database, &node.id, &foreign)?;
            node.unsure = false;
            node.held = node.held.without(&foreign);
        }
        let missing = wanted.without(&node.held);
        if !missing.is_empty() {
            let free = rows::free(&mut self.database)?.and(&missing);
            if !free.is_empty() {
                node.unsure = true;
                let Some(taken) = rows::take(&mut self.database, &node.id, &free)? else {
                    self.lose(inner);
                    return Ok(());
                };
                node.unsure = false;
                node.held = node.held.or(&taken);
            }
        }
        let fresh = node.held.and(&wanted).without(&node.ready);
        if !fresh.is_empty() {
            // What is recorded from here on is seen by looking for news.
            let waiting = self.database.look(deliveries::waiting)?;
            node.ready = node.ready.or(&fresh);
            inner.tenure.set(node.ready);
            inner.expect_waiting(waiting);
        }
        Ok(())
    }

    /// Looks at what other nodes recorded and changed.
    fn look(&mut self, inner: &Arc<Inner>) -> Result<(), WebhookError> {
        let found = rows::revision(&mut self.database)?;
        if found.n != self.seen.n {
            let all = found.forgotten > self.seen.n;
            let since = (!all).then_some(self.seen.n);
            inner.catch_up(&mut self.database, since, self.timing.look)?;
            (self.seen.n, self.seen.forgotten) = (found.n, found.forgotten);
        }
        if found.news != self.seen.news {
            let news = rows::news(&mut self.database, self.seen.news)?;
            inner.expect(news, inner.now());
            self.seen.news = found.news;
        }
        Ok(())
    }

    /// Gives everything back, so that others need not wait for the end of the lease.
    fn end(&mut self, inner: &Arc<Inner>) {
        let Some(node) = &self.node else { return };
        let began = Instant::now();
        inner.tenure.set(ShareSet::default());
        while !inner.busy_shares().is_empty() {
            if began.elapsed() > END_MAX {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let parted: Result<(), SqlError> = rows::part(&mut self.database, &node.id);
        if let Err(error) = parted {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the lease to send webhooks could not be given back; it runs out"
            );
        }
        inner.tenure.end();
    }
}
