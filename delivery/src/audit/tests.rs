//! What is written, found again, and cannot be changed without being seen.

use std::sync::Arc;

use protocol::{TenantId, Time};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::*;
use crate::control::{
    FILE_NAME,
    tests::place::{Folder, Place, everywhere},
};

fn entry(action: &str, target: &str) -> NewEntry {
    let at = Time::from_millis(1_700_000_000_000);
    NewEntry::by_cli(at, "root".to_owned(), action, target.to_owned())
        .changing(json!({"name": "a"}), json!({"name": target}))
}

fn open<P: Place>(place: &P) -> Arc<Audit> {
    Audit::new(Arc::new(place.open()))
}

/// Three entries, by two processes.
fn three<P: Place>(place: &P) -> Arc<Audit> {
    let (one, other) = (open(place), open(place));
    one.record_now(entry("services_update", "services/shop")).unwrap();
    other.record_now(entry("services_suspend", "services/shop")).unwrap();
    one.record_now(entry("users_disable", "users/ann")).unwrap();
    one
}

everywhere!(
    entries_of_several_processes_are_one_chain,
    an_entry_is_found_by_what_is_known_of_it,
    an_entry_that_is_tried_again_is_there_once,
);

fn entries_of_several_processes_are_one_chain<P: Place>() {
    let place = P::new();
    let audit = three(&place);
    let all = audit.list(&Filter::default(), None, 10).unwrap();
    assert_eq!(all.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [3, 2, 1]);
    let expected: Value = json!({"before": {"name": "a"}, "after": {"name": "users/ann"}});
    assert_eq!(all[0].detail, Some(expected));
    let verified = audit.verify(None).unwrap();
    let whole =
        Verified { verdict: Verdict::Whole, entries: 3, first_wrong: None, hash: all[0].hash };
    assert_eq!(verified, whole);
    assert_eq!(audit.verify(Some((2, all[1].hash))).unwrap(), whole);
    assert_eq!(audit.verify(Some((0, FIRST))).unwrap(), whole);
    let verdict = |place, hash| audit.verify(Some((place, hash))).unwrap().verdict;
    assert_eq!(verdict(2, all[0].hash), Verdict::Forgotten, "another hash at that place");
    assert_eq!(verdict(4, all[0].hash), Verdict::Forgotten, "the end is gone");
}

fn an_entry_is_found_by_what_is_known_of_it<P: Place>() {
    let place = P::new();
    let audit = three(&place);
    let acme: TenantId = "acme".parse().unwrap();
    audit
        .record_now(NewEntry {
            tenant: Some(acme.clone()),
            ..entry("channels_remove", "channels/a b/小")
        })
        .unwrap();
    let found = |filter: Filter| -> Vec<u64> {
        let found = audit.list(&filter, None, 10).unwrap();
        found.into_iter().map(|entry| entry.seq).collect()
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found(Filter { target: text("services"), ..Filter::default() }), [2, 1]);
    assert_eq!(found(Filter { target: text("channels/a b/小"), ..Filter::default() }), [4]);
    assert_eq!(found(Filter { target: text("service"), ..Filter::default() }), [0_u64; 0]);
    assert_eq!(found(Filter { action: text("users_disable"), ..Filter::default() }), [3]);
    assert_eq!(found(Filter { actor: text("root"), ..Filter::default() }), [4, 3, 2, 1]);
    assert_eq!(found(Filter { actor: text("ro%t"), ..Filter::default() }), [0_u64; 0]);
    assert_eq!(found(Filter { tenant: Some(acme), ..Filter::default() }), [4]);
    let at = Time::from_millis(1_700_000_000_000);
    assert_eq!(found(Filter { since: Some(at), ..Filter::default() }), [4, 3, 2, 1]);
    assert_eq!(found(Filter { until: Some(at), ..Filter::default() }), [0_u64; 0]);
    let page = audit.list(&Filter::default(), Some(3), 1).unwrap();
    assert_eq!(page.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [2]);
}

fn an_entry_that_is_tried_again_is_there_once<P: Place>() {
    let place = P::new();
    let audit = open(&place);
    let new = entry("services_update", "services/shop");
    audit.record_now(new.clone()).unwrap();
    audit.record_now(new).unwrap();
    assert_eq!(audit.verify(None).unwrap().entries, 1);
}

/// What somebody does to the file who may write it, and what a look at the chain says then.
fn after_harm(harm: &str) -> Result<(Verdict, Option<u64>), rusqlite::Error> {
    let place = Folder::new();
    let audit = three(&place);
    let file = Connection::open(place.0.path().join(FILE_NAME)).unwrap();
    file.execute_batch(harm)?;
    let verified = audit.verify(None).unwrap();
    Ok((verified.verdict, verified.first_wrong))
}

const UNLOCKED: &str = "DROP TRIGGER audit_entry_stands; DROP TRIGGER audit_entry_stays;";

#[test]
fn the_database_changes_and_deletes_no_entry() {
    for harm in ["UPDATE audit_entry SET status = 0", "DELETE FROM audit_entry WHERE seq = 3"] {
        let error = after_harm(harm).unwrap_err().to_string();
        assert!(error.contains("entries of the audit log st"), "{error}");
    }
}

#[test]
fn whoever_gets_around_that_is_found_out() {
    let found = |harm: &str| after_harm(&format!("{UNLOCKED} {harm}")).unwrap();
    for column in [
        "id",
        "at",
        "tenant_id",
        "actor_id",
        "actor_name",
        "address",
        "request_id",
        "action",
        "target",
        "status",
        "detail",
    ] {
        let harm = format!("UPDATE audit_entry SET {column} = 7 WHERE seq = 2");
        assert_eq!(found(&harm), (Verdict::Changed, Some(2)), "{column}");
    }
    let harm = "UPDATE audit_entry SET actor_kind = 'admin' WHERE seq = 2";
    assert_eq!(found(harm), (Verdict::Changed, Some(2)));
    assert_eq!(found("UPDATE audit_entry SET actor_kind = '?'"), (Verdict::Changed, Some(1)));
    assert_eq!(found("DELETE FROM audit_entry WHERE seq = 2"), (Verdict::Missing, Some(2)));
    assert_eq!(found("DELETE FROM audit_entry WHERE seq = 1"), (Verdict::Missing, Some(1)));
    let swapped = "UPDATE audit_entry SET seq = 9 WHERE seq = 2; UPDATE audit_entry SET seq = 2 WHERE seq = 3;
                   UPDATE audit_entry SET seq = 3 WHERE seq = 9;";
    assert_eq!(found(swapped), (Verdict::Changed, Some(2)));
}

#[test]
fn what_the_database_does_not_take_waits_and_is_written_in_its_order() {
    let place = Folder::new();
    let audit = open(&place);
    let file = Connection::open(place.0.path().join(FILE_NAME)).unwrap();
    file.execute_batch(
        "CREATE TRIGGER no BEFORE INSERT ON audit_entry BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .unwrap();
    for n in 1..=WAITING_MAX {
        assert!(!audit.is_full());
        audit.record_now(entry("services_update", &format!("services/{n}"))).unwrap_err();
    }
    assert!(audit.is_full());
    file.execute_batch("DROP TRIGGER no").unwrap();
    audit.record_now(entry("services_update", "services/last")).unwrap();
    assert!(!audit.is_full());
    let all = audit.list(&Filter::default(), None, 2).unwrap();
    let targets: Vec<&str> = all.iter().map(|entry| &*entry.target).collect();
    assert_eq!(targets, ["services/last", "services/1000"]);
    assert_eq!(audit.verify(None).unwrap().entries, WAITING_MAX as u64 + 1);
}
