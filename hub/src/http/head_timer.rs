//! How long a request's head may take.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Sleep;

use super::io::Verdict;

/// The time a request's head may take. hyper's own begins with the answer before, so that one
/// limit would stand for slow heads, which hold a slot and should go soon, and for rest, in which a
/// client or a proxy should close first: a server that does sends a reset to some request that is
/// just on its way.
pub(super) struct HeadTimer {
    limit: Duration,
    verdict: Arc<Verdict>,
    /// While a head is awaited.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl HeadTimer {
    pub(super) fn new(limit: Duration, verdict: Arc<Verdict>) -> Self {
        Self { limit, verdict, deadline: None }
    }

    /// Ready when the head is late. To be polled after the connection, which reads.
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.verdict.awaits_head() {
            self.deadline = None;
            return Poll::Pending;
        }
        let limit = self.limit;
        self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit))).as_mut().poll(cx)
    }
}
