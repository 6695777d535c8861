//! The suite, generic over the constructor.

pub(crate) mod actions;
pub(crate) mod backups;
pub(crate) mod broadcast;
pub(crate) mod channels;
pub(crate) mod collapse;
pub(crate) mod cursors;
pub(crate) mod durable;
pub(crate) mod expiry;
pub(crate) mod fixture;
pub(crate) mod forget;
pub(crate) mod group_model;
pub(crate) mod group_races;
pub(crate) mod groups;
pub(crate) mod ids;
pub(crate) mod ledger;
pub(crate) mod lists;
pub(crate) mod log;
pub(crate) mod marks;
pub(crate) mod model;
pub(crate) mod names;
pub(crate) mod retention;
pub(crate) mod rewrites;
pub(crate) mod search;
pub(crate) mod users;

use std::{future::Future, path::Path, sync::Arc};

use delivery::{Fanout, InboxKey, store::Storage};

/// A place for one store.
pub(crate) trait Backend: Sized + Send + Sync + 'static {
    /// An empty one.
    fn new() -> Self;

    /// Opens the store that is there. The one before must be closed.
    fn open(&self, fanout: Arc<dyn Fanout>) -> impl Future<Output = Arc<dyn Storage>> + Send;

    /// What a new process would find if this one were killed now, while nothing is being asked;
    /// none for backends in which this cannot be had.
    fn killed(&self) -> Option<Self>;

    /// Makes an inbox's place refuse writes, or lets it be written again; false for backends in which
    /// no single inbox can refuse.
    fn refuse_writes(&self, inbox: &InboxKey, refuse: bool) -> bool;

    /// The folder beside which nothing may be written, for backends that have one.
    fn folder(&self) -> Option<&Path>;
}

/// Makes a test of every function of the suite.
macro_rules! suite {
    ($module:ident, $backend:ty) => {
        mod $module {
            use super::*;

            contract::suite!(@tests $backend,
                actions: a_button_is_pressed_once,
                actions: what_cannot_be_pressed_is_not_found,
                actions: an_archived_message_stays_so_when_pressed,
                actions: of_presses_at_once_one_is_first,
                backups: a_backup_has_all_of_an_inbox_and_nothing_of_others,
                backups: an_incremental_backup_has_what_changed,
                backups: a_backup_under_load_is_a_prefix,
                backups: what_has_no_room_is_refused,
                backups: a_harmed_backup_is_refused,
                broadcast: reaches_who_exists_in_order_with_direct_messages,
                broadcast: is_merged_for_users_that_were_not_watched,
                broadcast: stays_in_its_tenant,
                broadcast: is_published_to_who_is_watched,
                channels: a_change_needs_the_version_it_was_made_from,
                channels: are_listed_in_order_with_their_members_counted,
                channels: members_come_and_go_once,
                channels: concurrent_changes_of_members_count_once,
                channels: the_log_is_what_was_sent_since_it_was_made,
                collapse: a_newer_one_takes_the_place_of_unread_older_ones,
                collapse: counts_stay_right_while_they_come_and_go,
                collapse: counts_stay_right_while_the_inbox_cannot_be_written,
                cursors: go_forward_only_and_not_beyond_the_head,
                cursors: survive_an_orderly_end,
                durable: everything_is_there_after_reopening,
                durable: an_append_is_all_or_nothing,
                durable: a_closed_store_answers_closing,
                durable: a_writable_store_says_so,
                durable: everything_is_there_after_a_kill,
                durable: what_came_while_an_inbox_was_first_seen_is_there_after_a_kill,
                durable: reads_stay_while_an_inbox_cannot_be_written,
                durable: a_dropped_future_leaves_a_whole_operation,
                expiry: an_expired_message_keeps_its_seq_and_loses_everything_else,
                expiry: an_expired_message_is_not_marked,
                forget: nothing_of_an_inbox_is_left,
                forget: a_forgotten_user_is_in_no_group,
                forget: what_was_sent_to_it_names_it_no_longer,
                forget: what_it_sent_stays_with_who_received_it,
                forget: what_comes_after_makes_a_new_inbox,
                forget: an_unknown_user_and_a_second_time_are_no_error,
                forget: another_tenants_user_is_untouched,
                forget: while_it_is_used_by_everybody,
                group_races: a_join_or_leave_has_one_place_among_sends,
                group_races: who_watches_is_told_whatever_happens_meanwhile,
                groups: whoever_is_a_member_receives_and_nobody_else,
                groups: a_user_in_several_groups_receives_once,
                groups: members_that_are_watched_are_told_at_once,
                groups: what_was_received_stays,
                groups: a_channel_made_again_is_empty,
                groups: a_member_has_an_inbox,
                groups: whoever_comes_and_goes_receives_what_came_meanwhile,
                groups: a_long_absence_is_made_up_in_order,
                groups: a_hundred_thousand_members_cost_one_write,
                groups: tenants_are_apart,
                ids: every_legal_id_has_an_inbox_of_its_own,
                ids: nothing_leaves_the_folder,
                ids: nobody_else_on_the_machine_may_look,
                lists: filters_select_and_sorts_order,
                lists: pages_by_offset_cover_everything_once,
                lists: a_cursor_does_not_move_when_messages_arrive,
                lists: metadata_is_found_by_what_it_says,
                lists: metadata_goes_with_everything_else_a_list_can_do,
                lists: metadata_is_that_of_now,
                log: seqs_are_dense_and_in_order,
                log: concurrent_appends_make_one_log_that_stays,
                log: pages_are_contiguous_and_limited,
                log: a_change_is_visible_before_it_is_published,
                log: who_watches_is_told_each_change_once_in_order,
                log: inboxes_and_tenants_are_apart,
                log: heads_are_of_watched_inboxes,
                log: a_duplicate_recipient_receives_once,
                names: are_users_then_channels_then_roles,
                names: many_are_looked_up_in_order,
                names: a_size_counts_each_once,
                marks: read_twice_is_no_change,
                marks: unread_and_archive_have_their_rules,
                marks: a_version_that_is_stale_is_a_conflict,
                marks: many_up_to_and_channel_mark_what_they_name,
                marks: what_is_unknown_is_not_found,
                marks: concurrent_marks_count_once,
                search: finds_words_and_marks_them,
                search: has_all_filters_sorts_and_pages_of_a_list,
                search: sees_every_change_at_once,
                search: finds_all_that_belongs_to_an_inbox_and_nothing_else,
                search: finds_everything_after_an_end_and_a_kill,
                search: is_right_or_refused_while_an_inbox_cannot_be_written,
                search: many_at_once_find_the_same,
                search: a_closed_store_searches_nothing,
                users: a_token_makes_its_user_known,
                users: an_older_token_undoes_nothing,
                users: a_role_is_left_when_nobody_says_it_any_more,
                users: an_admins_department_stands_over_the_tokens,
                users: everybody_known_is_listed,
                users: limits_are_kept,
                users: many_tokens_at_once_are_counted_right,
                marks: unread_is_counted_by_channel,
                retention: the_oldest_go_and_what_stays_is_as_it_was,
                retention: what_is_older_than_it_may_be_goes,
                retention: much_goes_piece_by_piece_while_the_inbox_is_used,
                retention: nothing_goes_while_the_inbox_cannot_be_written,
                rewrites: are_told_as_what_the_message_is_then,
                rewrites: who_came_after_a_message_to_everyone_hears_nothing,
            );

            #[test]
            fn a_random_life_of_groups_is_like_the_model() {
                contract::group_model::a_random_life_of_groups_is_like_the_model::<$backend>();
            }

            #[test]
            fn a_random_life_is_like_the_model() {
                contract::model::a_random_life_is_like_the_model::<$backend>();
            }
        }
    };
    (@tests $backend:ty, $($area:ident: $test:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                contract::$area::$test(<$backend as contract::Backend>::new()).await;
            }
        )*
    };
}
pub(crate) use suite;

pub(crate) use ledger::ledger_suite;
