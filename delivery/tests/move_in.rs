//! Whatever a folder has is in the database after its move, and goes on there as it would have here: the
//! store's contract, in which the store that is opened again is another one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(
    dead_code,
    unused_macros,
    unused_imports,
    reason = "not all of the suite opens the store again"
)]
mod contract;
mod moved;
mod postgres;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use delivery::{
    Fanout, InboxKey,
    clock::WallClock,
    store::{
        Storage,
        postgres::{PostgresConfig, PostgresStore},
        single::{SingleConfig, SingleStore},
    },
};
use tempfile::TempDir;

use contract::{
    Backend,
    ledger::{Books, LedgerBackend},
};

/// A folder when it is opened first, and the database that it was moved into from then on. Its files are written
/// only when a question needs them, so that the move finds most in the journal.
struct Moving {
    folder: TempDir,
    url: String,
    /// The folder was served.
    served: AtomicBool,
    moved: AtomicBool,
}

impl Moving {
    fn config(&self) -> SingleConfig {
        SingleConfig {
            root: self.folder.path().join("storage"),
            flush_interval: Duration::from_hours(1),
            ..SingleConfig::default()
        }
    }

    fn single(&self, fanout: Arc<dyn Fanout>, clock: WallClock) -> Arc<SingleStore> {
        let config = SingleConfig { clock, ..self.config() };
        SingleStore::open(&config, fanout, &metrics::NoopRecorder).unwrap()
    }

    async fn database(
        &self,
        fanout: Arc<dyn Fanout>,
        clock: Option<WallClock>,
    ) -> Arc<PostgresStore> {
        if !self.moved.swap(true, Ordering::SeqCst) {
            let (url, folder) = (self.url.clone(), self.config());
            tokio::task::spawn_blocking(move || moved::run(&url, folder).unwrap()).await.unwrap();
        }
        let config = PostgresConfig { clock, ..PostgresConfig::new(self.url.clone()) };
        PostgresStore::open(config, fanout, &metrics::NoopRecorder).await.unwrap()
    }
}

impl Backend for Moving {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            url: postgres::database(),
            served: false.into(),
            moved: false.into(),
        }
    }

    async fn open(&self, fanout: Arc<dyn Fanout>) -> Arc<dyn Storage> {
        if self.served.swap(true, Ordering::SeqCst) {
            self.database(fanout, None).await
        } else {
            self.single(fanout, WallClock::default())
        }
    }

    fn folder(&self) -> Option<&Path> {
        None
    }

    fn refuse_writes(&self, _: &InboxKey, _: bool) -> bool {
        false
    }

    fn killed(&self) -> Option<Self> {
        if self.moved.load(Ordering::SeqCst) {
            return None;
        }
        let copy = Self { served: true.into(), ..Self::new() };
        moved::copy_folder(self.folder.path(), copy.folder.path());
        Some(copy)
    }
}

impl LedgerBackend for Moving {
    async fn open_books(&self, fanout: Arc<dyn Fanout>, clock: WallClock) -> Arc<dyn Books> {
        if self.served.swap(true, Ordering::SeqCst) {
            self.database(fanout, Some(clock)).await
        } else {
            self.single(fanout, clock)
        }
    }
}

// Those tests that open the store again. The one of a hundred thousand members would move as many inboxes.
mod moved_store {
    use super::*;

    contract::suite!(@tests Moving,
        actions: a_button_is_pressed_once,
        actions: an_archived_message_stays_so_when_pressed,
        broadcast: reaches_who_exists_in_order_with_direct_messages,
        broadcast: is_merged_for_users_that_were_not_watched,
        channels: a_change_needs_the_version_it_was_made_from,
        channels: are_listed_in_order_with_their_members_counted,
        channels: members_come_and_go_once,
        channels: concurrent_changes_of_members_count_once,
        channels: the_log_is_what_was_sent_since_it_was_made,
        collapse: a_newer_one_takes_the_place_of_unread_older_ones,
        cursors: survive_an_orderly_end,
        durable: everything_is_there_after_reopening,
        durable: everything_is_there_after_a_kill,
        durable: what_came_while_an_inbox_was_first_seen_is_there_after_a_kill,
        expiry: an_expired_message_keeps_its_seq_and_loses_everything_else,
        group_races: a_join_or_leave_has_one_place_among_sends,
        group_races: who_watches_is_told_whatever_happens_meanwhile,
        groups: whoever_is_a_member_receives_and_nobody_else,
        groups: a_user_in_several_groups_receives_once,
        groups: what_was_received_stays,
        groups: a_channel_made_again_is_empty,
        groups: a_member_has_an_inbox,
        groups: whoever_comes_and_goes_receives_what_came_meanwhile,
        groups: a_long_absence_is_made_up_in_order,
        groups: tenants_are_apart,
        ids: every_legal_id_has_an_inbox_of_its_own,
        lists: a_cursor_does_not_move_when_messages_arrive,
        lists: metadata_is_found_by_what_it_says,
        lists: metadata_is_that_of_now,
        log: concurrent_appends_make_one_log_that_stays,
        log: inboxes_and_tenants_are_apart,
        marks: unread_is_counted_by_channel,
        names: are_users_then_channels_then_roles,
        names: many_are_looked_up_in_order,
        names: a_size_counts_each_once,
        retention: the_oldest_go_and_what_stays_is_as_it_was,
        retention: what_is_older_than_it_may_be_goes,
        retention: much_goes_piece_by_piece_while_the_inbox_is_used,
        rewrites: are_told_as_what_the_message_is_then,
        rewrites: who_came_after_a_message_to_everyone_hears_nothing,
        search: finds_everything_after_an_end_and_a_kill,
        users: a_token_makes_its_user_known,
        users: an_older_token_undoes_nothing,
        users: a_role_is_left_when_nobody_says_it_any_more,
        users: an_admins_department_stands_over_the_tokens,
        users: everybody_known_is_listed,
        users: limits_are_kept,
        users: many_tokens_at_once_are_counted_right,
    );

    #[test]
    fn a_random_life_of_groups_is_like_the_model() {
        contract::group_model::a_random_life_of_groups_is_like_the_model::<Moving>();
    }

    #[test]
    fn a_random_life_is_like_the_model() {
        contract::model::a_random_life_is_like_the_model::<Moving>();
    }
}

mod moved_ledger {
    use super::*;

    contract::ledger_suite!(@tests Moving,
        answers: an_answer_survives_and_ends_after_a_day,
        answers: an_answer_is_there_if_and_only_if_its_messages_are,
        changes: a_sent_message_is_edited_and_recalled,
        changes: an_edit_over_what_is_not_there_any_more_changes_nothing,
        changes: what_is_said_now_is_found_wherever_it_stands,
        changes: a_scheduled_message_is_edited_and_cancelled,
        changes: concurrent_changes_of_one_message_are_in_one_order,
        receipts: everybody_who_was_known_is_a_recipient,
        scheduled: a_message_is_sent_at_its_time_once,
        scheduled: due_at_once_go_by_priority,
        scheduled: what_is_due_while_the_store_is_closed_is_sent_when_it_opens,
        scheduled: a_kill_at_any_point_sends_it_once,
        scheduled: a_cancellation_and_the_time_decide_once,
        scheduled: what_expires_before_its_time_is_never_sent,
        sent: what_was_sent_is_known_to_its_tenant,
        sent: nothing_is_lost_or_doubled_by_reopening,
        sent: what_a_sender_has_sent_comes_in_pages_each_once,
        stats: messages_are_counted_by_what_they_are,
        stats: nothing_is_counted_twice_after_a_kill,
    );
}
