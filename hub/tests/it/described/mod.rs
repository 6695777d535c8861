//! The API as it describes itself: its examples are executed, its permissions tried, its documents
//! read. A new endpoint is tested here by being registered.

mod documents;
mod examples;
mod normal;
mod permissions;
mod stage;
mod walls;

use std::{fmt::Debug, future::Future, panic::AssertUnwindSafe};

use futures_util::{FutureExt, StreamExt, stream};

/// Operations whose servers run at a time.
const AT_A_TIME: usize = 4;

/// Does something with every operation, and fails only then: one that is wrong must not hide the
/// others.
async fn each<T: Debug, F: Future<Output = T>>(all: Vec<(String, F)>) -> Vec<T> {
    let done: Vec<_> = stream::iter(all)
        .map(async |(id, work)| (id, AssertUnwindSafe(work).catch_unwind().await))
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    let failed: Vec<_> = done.iter().filter(|(_, done)| done.is_err()).map(|(id, _)| id).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    done.into_iter().filter_map(|(_, done)| done.ok()).collect()
}
