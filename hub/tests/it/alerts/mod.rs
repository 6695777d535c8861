//! Every alert is raised by its real fault: a real process is harmed, its `/metrics` are looked at ten times a second,
//! and Prometheus's own promtool runs the rule over what was seen, with the rule's minutes made shorter. Before the
//! fault the same rule must be silent.
//!
//! The two tables are all rules: one that is in neither, or in both, fails. `alerts.test.yaml` holds every rule to made-up
//! samples besides (`scripts/k8s.sh`).

mod cluster;
mod node;
mod recording;
mod rules;

use std::collections::BTreeSet;

macro_rules! faults {
    ($($module:ident::$fault:ident raises $($alert:ident)*;)*) => {
        const RAISED: &[&str] = &[$($(stringify!($alert),)*)*];

        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $fault() {
                Box::pin($module::$fault()).await.raises(&[$(stringify!($alert)),*]);
            }
        )*
    };
}

faults! {
    node::it_is_killed_and_starts_again_and_again raises PushhubDown PushhubAbsent PushhubRestarting;
    node::its_disk_is_full raises
        PushhubStoreCannotCommit PushhubNotReady PushhubErrorsFast PushhubErrorsSlow;
    node::its_disk_is_slow raises PushhubCommitsSlow PushhubDeliverySlow;
    node::a_device_does_not_go_while_it_drains raises PushhubDrainStuck;
    node::more_devices_come_than_it_takes raises
        PushhubConnectionsNearLimit PushhubConnectionsRefused;
    node::all_devices_come_back_at_once raises PushhubReconnectStorm;
    node::more_connections_come_than_it_takes raises PushhubHttpFull;
    node::it_has_no_descriptors_left raises PushhubAcceptErrors PushhubDescriptors;
    node::somebody_guesses_tokens raises PushhubAuthFailures;
    node::refresh_tokens_are_used_twice raises PushhubRefreshTokensCopied;
    node::a_users_file_is_damaged raises PushhubStoreErrors;
    node::its_control_data_cannot_be_written raises PushhubAuditWaiting;
    node::its_disk_is_too_slow_for_what_is_scheduled raises PushhubScheduledLate;
    node::webhooks_cannot_be_written raises PushhubWebhookStoreFailing;
    node::a_webhook_is_gone raises PushhubWebhooksDisabled;
    node::backups_of_everybody_find_no_room raises PushhubBackupFails;
    cluster::redis_is_away raises PushhubBusDown PushhubBusDropped;
    cluster::two_nodes_have_one_name raises PushhubNodesDisagree;
    cluster::the_database_is_away raises PushhubPostgresErrors;
    cluster::a_synchronous_standby_is_slow raises PushhubPostgresSlow;
    cluster::the_database_answers_nothing raises PushhubPostgresWaited;
    cluster::other_nodes_are_not_heard raises PushhubPositionRepairs;
    cluster::more_waits_for_the_database_than_may raises PushhubPostgresBusy;
    cluster::the_database_answers_nothing_for_longer_than_a_lease raises PushhubWebhookLeasesLost;
    cluster::the_standby_is_away raises PushhubStandbyFailing;
}

/// Alerts whose fault no test can make in its time, and why.
const NOT_RAISED: &[(&str, &str)] = &[
    ("PushhubPanics", "no request is known that panics; one that is found is mended"),
    (
        "PushhubLogLost",
        "4 MiB of lines that nobody reads; telemetry::log_writer raises the counter by a stuck reader",
    ),
    ("PushhubLimitsShared", "65,536 addresses at a time; limit's own tests fill the table"),
    ("PushhubPublishDropped", "262,144 changes that wait for two threads"),
    ("PushhubReceiptsDropped", "a million notes that cannot be written"),
    ("PushhubStatsLost", "more messages read at a time than are counted apart"),
    ("PushhubStoreBusy", "64 MiB of sends that wait for one disk"),
    ("PushhubStoreLagging", "128 MiB that are not yet in users' files"),
    ("PushhubJournalGrows", "fifty segments of a journal"),
    ("PushhubScheduledRetries", "a ledger that cannot be read while the journal can be written"),
    ("PushhubScheduledDamaged", "a scheduled message that was changed on the disk"),
    (
        "PushhubWebhookDeadLetters",
        "days of attempts; webhook's tests of retries give up by a clock of their own",
    ),
    ("PushhubWebhookEventsDropped", "a million events for one endpoint"),
    ("PushhubWebhookBacklog", "100,000 events that wait for half an hour"),
    ("PushhubBusDoubts", "twenty holes within ten minutes; bus traffic's tests make one at a time"),
    (
        "PushhubStoreRewound",
        "a standby without the last commits; cluster::failover raises the counter",
    ),
    ("PushhubDeletionsFail", "twenty deletions that fail; deletion's tests raise the counter"),
];

#[test]
fn every_alert_has_a_fault_or_a_reason_for_none() {
    let rules: BTreeSet<String> = rules::all().into_iter().map(|rule| rule.name).collect();
    let not_raised = NOT_RAISED.iter().map(|(alert, why)| {
        assert!(why.len() > 10, "{alert}: why?");
        *alert
    });
    let mut named = BTreeSet::new();
    for alert in RAISED.iter().copied().chain(not_raised) {
        assert!(named.insert(alert.to_owned()), "{alert} is named twice");
    }
    assert_eq!(named, rules);
}
