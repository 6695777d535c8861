//! Each fault, planted.

use super::*;

/// Three users with one device; user 1 gets send 0, users 2 and 0 get send 1.
fn checker() -> Checker {
    let mut checker = Checker::new(9, 3, 1);
    assert_eq!(checker.plan(1, 1, 0, true), 0);
    assert_eq!(checker.plan(2, 2, 0, true), 1);
    checker.answered(0, Outcome::Accepted, 1);
    checker.answered(1, Outcome::Accepted, 1);
    checker
}

fn stamp(send: u64, first: u32, count: u32) -> Stamp {
    Stamp { run: 9, send, first, count }
}

#[test]
fn a_clean_run_owes_nothing() {
    let mut checker = checker();
    assert_eq!(checker.owed(), 3);
    for (socket, stamp) in [(1, stamp(0, 1, 1)), (2, stamp(1, 2, 2)), (0, stamp(1, 2, 2))] {
        assert!(checker.change(socket, 1));
        assert!(checker.deliver(socket, stamp).is_some());
    }
    assert_eq!(checker.owed(), 0);
    assert_eq!(checker.faults, Faults::default());
    assert!(checker.complete(checker.send(1)));
}

#[test]
fn a_lost_message_is_seen_also_when_it_is_the_last() {
    let mut checker = checker();
    checker.change(1, 1);
    checker.deliver(1, stamp(0, 1, 1));
    checker.change(2, 1);
    checker.deliver(2, stamp(1, 2, 2));
    assert_eq!((checker.owed(), checker.faults), (1, Faults::default()));
}

#[test]
fn delivery_before_the_answer_counts() {
    let mut checker = Checker::new(9, 1, 2);
    checker.plan(0, 1, 0, true);
    checker.deliver(0, stamp(0, 0, 1));
    checker.answered(0, Outcome::Accepted, 5);
    assert_eq!(checker.owed(), 1);
    checker.deliver(1, stamp(0, 0, 1));
    assert_eq!(checker.owed(), 0);
}

#[test]
fn a_repeated_seq_is_a_duplicate() {
    let mut checker = checker();
    assert!(checker.change(0, 1));
    assert!(!checker.change(0, 1));
    assert_eq!(checker.faults, Faults { duplicated: 1, ..Faults::default() });
}

#[test]
fn a_gap_and_a_late_frame_are_reorderings() {
    let mut checker = checker();
    for seq in [1, 3, 2, 4] {
        assert!(checker.change(0, seq));
    }
    assert_eq!(checker.faults, Faults { reordered: 2, ..Faults::default() });
    assert!(!checker.change(0, 2));
    assert_eq!(checker.faults.duplicated, 1);
}

#[test]
fn a_resumed_socket_goes_on_after_its_cursor() {
    let mut checker = checker();
    checker.begin(0, 41, false);
    assert!(checker.change(0, 42));
    assert!(!checker.change(0, 41), "a seq before the cursor was seen already");
    assert_eq!(checker.faults.duplicated, 1);
}

#[test]
fn a_message_for_somebody_else_is_foreign() {
    let mut checker = checker();
    assert!(checker.deliver(0, stamp(0, 1, 1)).is_none());
    assert_eq!(checker.faults, Faults { foreign: 1, ..Faults::default() });
    assert_eq!(checker.owed(), 3);
}

#[test]
fn a_changed_stamp_is_corrupt_and_another_run_is_history() {
    let mut checker = checker();
    checker.deliver(1, stamp(0, 1, 2));
    checker.deliver(1, stamp(99, 1, 1));
    checker.deliver(1, Stamp { run: 8, ..stamp(0, 1, 1) });
    assert_eq!(checker.faults, Faults { corrupt: 2, ..Faults::default() });
}

#[test]
fn a_message_stored_twice_is_seen_and_does_not_hide_a_loss() {
    let mut checker = checker();
    checker.change(2, 1);
    checker.deliver(2, stamp(1, 2, 2));
    checker.change(2, 2);
    checker.deliver(2, stamp(1, 2, 2));
    assert_eq!(checker.faults, Faults { stored_twice: 1, ..Faults::default() });
    assert_eq!(checker.owed(), 2);
}

#[test]
fn what_was_refused_must_not_arrive() {
    let mut checker = Checker::new(9, 1, 1);
    checker.plan(0, 1, 0, true);
    checker.answered(0, Outcome::Refused, 1);
    checker.deliver(0, stamp(0, 0, 1));
    assert_eq!(checker.faults, Faults { refused_arrived: 1, ..Faults::default() });
    checker.plan(0, 1, 0, true);
    checker.deliver(0, stamp(1, 0, 1));
    assert_eq!(checker.faults.refused_arrived, 1, "not answered yet");
    checker.answered(1, Outcome::Refused, 1);
    assert_eq!(checker.faults.refused_arrived, 2);
}
