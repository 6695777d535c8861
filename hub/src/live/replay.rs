//! Reads the store for connections that catch up, a bounded page at a time.

use std::sync::Arc;

use delivery::{Store, StoreError, store::BoxFuture};
use tokio::sync::Semaphore;

use super::{
    connection::Connection,
    outbox::{PageFrames, PageRequest},
    registry::{Registry, frames},
};

/// Changes on one page: enough that reading the page costs little per change, few enough that a
/// page of short messages stays near [`PAGE_BYTES_MAX`].
const PAGE_CHANGES_MAX: usize = 256;

/// Message bodies on one page, in bytes. A connection that catches up holds one page and, at most,
/// a quarter of its outbox limit.
const PAGE_BYTES_MAX: usize = 64 << 10;

/// Pages that are read at the same time on this node, so that ten thousand connections coming back
/// at once neither hold ten thousand pages nor overrun the store. Others wait in order.
pub(super) const PAGE_READS_MAX: usize = 64;

/// A page and what it was read for.
pub(super) type PageResult = Result<(PageRequest, PageFrames), StoreError>;

/// Reads the page for `request`. Dropping the future is safe: nothing was taken yet.
pub(super) fn read_page(
    registry: Arc<Registry>,
    store: Arc<dyn Store>,
    permits: Arc<Semaphore>,
    connection: Arc<Connection>,
    request: PageRequest,
) -> BoxFuture<'static, PageResult> {
    Box::pin(async move {
        let _permit = permits.acquire_owned().await.expect("the semaphore is never closed");
        let inbox = connection.inbox();
        let page = store.changes(inbox, request.since, PAGE_CHANGES_MAX, PAGE_BYTES_MAX).await?;
        let now = registry.now();
        // As of now: a backlog that is read in the morning rings as what comes in the morning does.
        let silence = registry.silence_of(inbox);
        let silenced = registry.silenced(silence.as_deref(), &page.changes);
        let frames = frames(&page.changes, silenced.as_ref(), connection.framing(), now).collect();
        Ok((request, PageFrames { frames, head: page.head, min_seq: page.min_seq }))
    })
}
