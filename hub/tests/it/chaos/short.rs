//! Every kind of fault once, in seconds.

use super::{campaign::Campaign, nemesis::Fault, site::Form};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_die_stand_still_and_are_restarted() {
    Campaign::short(Form::Single, &Fault::OF_NODES).run().await.is_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_dies_stands_still_and_falls_silent() {
    Campaign::short(Form::Single, &Fault::OF_REDIS).run().await.is_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_dies_stands_still_and_has_no_room() {
    Campaign::short(Form::Single, &Fault::OF_POSTGRES).run().await.is_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_choose_another_primary() {
    Campaign::short(Form::Sentinel, &Fault::OF_SENTINELS).run().await.is_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_of_a_redis_cluster_fail_over() {
    Campaign::short(Form::Cluster, &Fault::OF_REDIS_CLUSTER).run().await.is_clean();
}
