//! What this node may send for, and until when.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::shares::ShareSet;

/// A lease of which a share is part. Another one, although of the same node, is not the same: between the
/// two the share may have been another node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::webhook) struct Term(u64);

#[derive(Clone, Copy)]
struct Present {
    term: Term,
    shares: ShareSet,
    /// None for a node that is alone and needs no lease.
    until: Option<Instant>,
}

impl Present {
    fn left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }
}

/// See the module.
pub(in crate::webhook) struct Tenure(watch::Sender<Present>);

impl Tenure {
    /// Of everything, for good: the node has a file of its own.
    pub(in crate::webhook) fn of_all() -> Self {
        Self::new(ShareSet::ALL, None)
    }

    /// Of nothing yet.
    pub(in crate::webhook) fn of_nothing() -> Self {
        Self::new(ShareSet::default(), Some(Instant::now()))
    }

    fn new(shares: ShareSet, until: Option<Instant>) -> Self {
        Self(watch::Sender::new(Present { term: Term(0), shares, until }))
    }

    /// Whether anything of a share may be begun; if so, for how long says [`Tenure::ended`].
    pub(in crate::webhook) fn term(&self, share: usize) -> Option<Term> {
        let present = self.0.borrow();
        let lasts = present.left().is_none_or(|left| !left.is_zero());
        (lasts && present.shares.has(share)).then_some(present.term)
    }

    /// When the term is over: what was begun in it has to stop.
    pub(in crate::webhook) async fn ended(&self, term: Term) {
        let mut changes = self.0.subscribe();
        loop {
            let present = *changes.borrow_and_update();
            if present.term != term {
                return;
            }
            let changed = changes.changed();
            match present.left() {
                Some(left) if left.is_zero() => return,
                // The sender is here, so there will be a change or the end.
                Some(left) => {
                    let _ = tokio::time::timeout(left, changed).await;
                }
                None => {
                    let _ = changed.await;
                }
            }
        }
    }

    /// A new lease, of nothing at first.
    pub(super) fn begin(&self, until: Instant) {
        self.0.send_modify(|present| {
            present.term.0 += 1;
            (present.shares, present.until) = (ShareSet::default(), Some(until));
        });
    }

    /// The database says that the lease goes on; whether it has lasted until now, as far as anybody here
    /// could know.
    pub(super) fn renew(&self, until: Instant) -> bool {
        let mut lasted = false;
        self.0.send_modify(|present| {
            lasted = present.left().is_none_or(|left| !left.is_zero());
            present.until = Some(until);
        });
        lasted
    }

    /// The lease is lost, with everything.
    pub(super) fn end(&self) {
        self.begin(Instant::now());
    }

    /// Which shares are this node's. What was begun of others goes on.
    pub(super) fn set(&self, shares: ShareSet) {
        self.0.send_modify(|present| present.shares = shares);
    }

    /// Whether the lease lasts.
    pub(super) fn lasts(&self) -> bool {
        self.0.borrow().left().is_none_or(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_term_ends_with_its_lease_and_not_with_its_share() {
        let tenure = Tenure::of_nothing();
        assert_eq!(tenure.term(3), None);
        tenure.begin(Instant::now() + Duration::from_secs(60));
        assert_eq!(tenure.term(3), None);
        tenure.set([3].into_iter().collect());
        let first = tenure.term(3).unwrap();
        let now = |term| tokio::time::timeout(Duration::from_millis(20), tenure.ended(term));
        assert!(now(first).await.is_err());
        // It was let go of: nothing is begun, and what goes on goes on.
        tenure.set(ShareSet::default());
        assert_eq!(tenure.term(3), None);
        assert!(now(first).await.is_err());
        assert!(tenure.renew(Instant::now()));
        now(first).await.unwrap();
        assert!(!tenure.renew(Instant::now()), "it did not last");
        // The next lease is another one.
        tenure.begin(Instant::now() + Duration::from_secs(60));
        tenure.set(ShareSet::ALL);
        now(first).await.unwrap();
        let second = tenure.term(3).unwrap();
        assert!(now(second).await.is_err());
        tenure.end();
        assert_eq!(tenure.term(3), None);
        now(second).await.unwrap();
        assert!(now(Tenure::of_all().term(3).unwrap()).await.is_ok(), "of another tenure");
    }

    #[tokio::test]
    async fn a_lease_that_nobody_renews_ends_by_itself() {
        let tenure = Tenure::of_nothing();
        tenure.begin(Instant::now() + Duration::from_millis(30));
        tenure.set(ShareSet::ALL);
        let term = tenure.term(0).unwrap();
        tokio::time::timeout(Duration::from_secs(10), tenure.ended(term)).await.unwrap();
        assert!(!tenure.lasts() && tenure.term(0).is_none());
    }
}
