//! `make chaos`: faults at random until `CHAOS_OPERATIONS` things have happened.

use std::time::Duration;

use super::{
    campaign::{Campaign, Faults},
    site::Form,
};
use crate::support::rounds;

async fn long(form: Form) {
    let campaign = Campaign {
        users: 12,
        // Many, for each waits for seconds where a node stands still.
        senders: 24,
        pause: Duration::from_millis(4),
        lasting: (Duration::from_millis(500), Duration::from_secs(4)),
        // They take all of the machine: asking the nodes for heads and reading them takes seconds.
        caught_up_within: Duration::from_secs(15),
        faults: Faults::Until(rounds("CHAOS_OPERATIONS", 3_000)),
        ..Campaign::short(form, &[])
    };
    campaign.run().await.is_clean();
}

#[ignore = "minutes: make chaos"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_on_a_single_redis() {
    long(Form::Single).await;
}

#[ignore = "minutes: make chaos"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_on_a_redis_cluster() {
    long(Form::Cluster).await;
}

#[ignore = "minutes: make chaos"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_with_sentinels() {
    long(Form::Sentinel).await;
}
