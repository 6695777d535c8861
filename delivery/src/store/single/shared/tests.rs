//! Whatever part of it is in the file, what is read is the same.

use std::sync::Arc;

use metrics::NoopRecorder;
use proptest::{collection::vec, prelude::*};
use protocol::{Body, ChannelId, TenantId, Time, UserId};
use tempfile::TempDir;

use super::{
    super::{
        inbox::{SharedEntry, What},
        membership::Memberships,
        metrics::StoreMetrics,
        record::{DirectoryRecord, Facts, ForgetRecord, Lsn},
    },
    Shared,
};
use crate::{
    InboxKey,
    store::{Audience, Channel, Group, NameKind, facts::no_facts},
};

const USERS: [&str; 3] = ["ann", "bob", "room"];

fn open(folder: &TempDir) -> Shared {
    let metrics = Arc::new(StoreMetrics::new(&NoopRecorder));
    Shared::open(&folder.path().join("shared.db"), metrics).unwrap()
}

fn tenant() -> TenantId {
    TenantId::default()
}

fn key(user: &str) -> InboxKey {
    InboxKey::new(tenant(), user.parse().unwrap())
}

fn room() -> ChannelId {
    "room".parse().unwrap()
}

fn role() -> Group {
    Group::Role("room".parse().unwrap())
}

fn channel(version: u64, created_by: String) -> Channel {
    Channel {
        id: room(),
        name: String::new(),
        description: String::new(),
        open: true,
        history: true,
        presence: false,
        metadata: serde_json::Map::new(),
        created_by,
        created_at: Time::from_millis(1),
        updated_at: Time::from_millis(2),
        version,
    }
}

fn entry(lsn: Lsn, to: Audience) -> SharedEntry {
    let id = format!("m{lsn}").parse().unwrap();
    let body = Arc::new(Body::from_stored(id, None, br#"{"id":"x"}"#));
    let what = What::Message(body);
    SharedEntry { lsn, at: Time::default(), to: Arc::new(to), what }
}

/// One record, as somebody would decide it.
#[derive(Clone, Debug)]
enum Step {
    Make,
    End,
    Join(usize),
    Leave(usize),
    /// Whether they carry the role now.
    Role(usize, bool),
    Seen(usize),
    Send,
    SendRole,
    Everyone,
    Issued(usize),
    Forget(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let user = || 0..USERS.len();
    prop_oneof![
        2 => Just(Step::Make),
        1 => Just(Step::End),
        5 => user().prop_map(Step::Join),
        4 => user().prop_map(Step::Leave),
        3 => (user(), any::<bool>()).prop_map(|(user, carries)| Step::Role(user, carries)),
        1 => user().prop_map(Step::Seen),
        3 => Just(Step::Send),
        1 => Just(Step::SendRole),
        1 => Just(Step::Everyone),
        1 => user().prop_map(Step::Issued),
        2 => user().prop_map(Step::Forget),
    ]
}

/// Decides as the directory does, on what is visible, and keeps the record under an lsn.
fn keep(shared: &Shared, lsn: Lsn, step: &Step) {
    let at = Time::from_millis(lsn.cast_signed());
    let group = Group::Channel(room());
    let stays =
        |user: usize| shared.memberships(&[key(USERS[user])]).unwrap().pop().expect("one for one");
    let there = shared.channel(&tenant(), &room()).unwrap();
    let directory = |record| shared.add_directory(lsn, &Arc::new(record));
    let members = |join: Vec<UserId>, leave: Vec<UserId>| DirectoryRecord::Members {
        tenant: tenant(),
        id: room(),
        join,
        leave,
        at,
    };
    match step {
        Step::Make => {
            let by = || USERS[usize::try_from(lsn).unwrap() % USERS.len()].to_owned();
            let by = there.as_ref().map_or_else(by, |kept| kept.channel.created_by.clone());
            let version = there.as_ref().map_or(1, |kept| kept.channel.version + 1);
            let (channel, since) = (channel(version, by), there.map(|kept| kept.since));
            directory(DirectoryRecord::Channel { tenant: tenant(), channel, since });
        }
        Step::End if there.is_some() => {
            directory(DirectoryRecord::ChannelGone { tenant: tenant(), id: room() });
        }
        Step::Join(user) if there.is_some() && !stays(*user).has(&group) => {
            directory(members(vec![USERS[*user].parse().unwrap()], vec![]));
        }
        Step::Leave(user) if stays(*user).has(&group) => {
            directory(members(vec![], vec![USERS[*user].parse().unwrap()]));
        }
        Step::Role(user, carries) if stays(*user).has(&role()) != *carries => {
            let known = shared.user(&key(USERS[*user])).unwrap();
            let mut facts = known.unwrap_or_else(|| no_facts(USERS[*user].parse().unwrap(), at));
            facts.record.username = lsn.to_string();
            facts.issued_at = facts.issued_at.max(Some(at));
            let (join, leave) =
                if *carries { (vec![role()], vec![]) } else { (vec![], vec![role()]) };
            directory(DirectoryRecord::User { tenant: tenant(), facts, join, leave, at });
        }
        Step::Seen(user) => shared.add_seen(lsn, key(USERS[*user]), at),
        Step::Send => shared.add_entry(&tenant(), entry(lsn, Audience::group(group))),
        Step::SendRole => {
            let groups = Arc::new([Group::Channel(room()), role()]);
            let to = Audience::Some { users: Arc::new([]), groups };
            shared.add_entry(&tenant(), entry(lsn, to));
        }
        Step::Everyone => shared.add_entry(&tenant(), entry(lsn, Audience::Everyone)),
        Step::Issued(user) if shared.user(&key(USERS[*user])).unwrap().is_some() => {
            shared.add_issued(key(USERS[*user]), at);
        }
        Step::Forget(user) => {
            let leave = stays(*user).open().map(|stay| Group::clone(&stay.group)).collect();
            let user = USERS[*user].parse().unwrap();
            let record = ForgetRecord { tenant: tenant(), user, leave };
            shared.add_forgotten(lsn, &Arc::new(record));
        }
        Step::End | Step::Join(_) | Step::Leave(_) | Step::Role(..) | Step::Issued(_) => {}
    }
}

/// All that can be read, of which stays that received nothing are no part.
#[derive(Debug, PartialEq)]
struct Seen {
    since: Vec<Option<Lsn>>,
    users: Vec<Option<Facts>>,
    inside: Vec<Vec<Lsn>>,
    open: Vec<Vec<Group>>,
    entries: Vec<Vec<Lsn>>,
    channel: Option<(u64, Lsn, String)>,
    sizes: (u64, u64, u64),
    kinds: Vec<NameKind>,
}

fn look(shared: &Shared, last: Lsn) -> Seen {
    let keys: Vec<InboxKey> = USERS.iter().map(|user| key(user)).collect();
    let standings: Vec<_> = keys.iter().map(|key| shared.standing(key).unwrap()).collect();
    let all: Vec<Memberships> = shared.memberships(&keys).unwrap();
    let groups = [Group::Channel(room()), role()];
    let sent: Vec<SharedEntry> = {
        let to = |group: &Group| super::super::membership::Membership {
            group: Arc::new(group.clone()),
            since: 0,
            until: 1,
        };
        let everything = Memberships::from(groups.iter().map(to).collect::<Vec<_>>());
        shared.entries_after(&tenant(), &everything, 0, usize::MAX).unwrap().entries
    };
    let received = |stays: &Memberships| -> Vec<Lsn> {
        let inside = |entry: &&SharedEntry| match &*entry.to {
            Audience::Some { groups, .. } => stays.any_at(groups, entry.lsn),
            Audience::Everyone => true,
        };
        sent.iter().filter(inside).map(|entry| entry.lsn).collect()
    };
    for (standing, stays) in standings.iter().zip(&all) {
        assert_eq!(received(&standing.memberships), received(stays));
    }
    let names = ["ann", "room", "nobody"].map(|name| (name.parse::<UserId>().unwrap(), false));
    Seen {
        since: standings.iter().map(|standing| standing.since).collect(),
        users: keys.iter().map(|key| shared.user(key).unwrap()).collect(),
        inside: all.iter().map(received).collect(),
        open: all
            .iter()
            .map(|stays| {
                let mut open: Vec<_> = stays.open().map(|stay| (*stay.group).clone()).collect();
                open.sort();
                open
            })
            .collect(),
        entries: all
            .iter()
            .flat_map(|stays| [0, last / 2].map(|after| pages(shared, stays, after)))
            .collect(),
        channel: shared
            .channel(&tenant(), &room())
            .unwrap()
            .map(|kept| (kept.channel.version, kept.since, kept.channel.created_by.clone())),
        sizes: (
            shared.size(&tenant(), &groups[0]).unwrap(),
            shared.size(&tenant(), &groups[1]).unwrap(),
            shared.channels(&tenant()).unwrap(),
        ),
        kinds: shared.kinds(&tenant(), &names, |_| false).unwrap(),
    }
}

/// What may concern an inbox, page by page; what concerns it for sure.
fn pages(shared: &Shared, stays: &Memberships, mut after: Lsn) -> Vec<Lsn> {
    let mut all = Vec::new();
    loop {
        let wanted = shared.entries_after(&tenant(), stays, after, 3).unwrap();
        let Some(last) = wanted.entries.last() else { return all };
        assert!(wanted.entries.len() <= 3);
        after = last.lsn;
        let inside = |entry: &&SharedEntry| match &*entry.to {
            Audience::Some { groups, .. } => stays.any_at(groups, entry.lsn),
            Audience::Everyone => true,
        };
        all.extend(wanted.entries.iter().filter(inside).map(|entry| entry.lsn));
        if !wanted.more {
            return all;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_waits_what_is_written_and_what_is_replayed_read_alike(
        steps in vec((step(), prop::bool::weighted(0.2)), 1..50)
    ) {
        let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [waiting, written, mixed] = [0, 1, 2].map(|at| open(&folders[at]));
        let last = steps.len() as Lsn;
        for (lsn, (step, flush)) in (1..).zip(&steps) {
            for shared in [&waiting, &written, &mixed] {
                keep(shared, lsn, step);
            }
            written.flush().unwrap();
            if *flush {
                mixed.flush().unwrap();
            }
            let seen = look(&waiting, last);
            prop_assert_eq!(&look(&written, last), &seen, "written at {}", lsn);
            prop_assert_eq!(&look(&mixed, last), &seen, "in both at {}", lsn);
        }
        let seen = look(&waiting, last);
        prop_assert_eq!(written.waiting.lock().bytes(), 0);
        // A restart brings the journal again: the whole of it, to a file that has a part.
        let items = {
            let waiting = waiting.waiting.lock();
            waiting.first(usize::MAX, usize::MAX)
        };
        drop(mixed);
        let mixed = open(&folders[2]);
        let forgets = |item: &super::Item, key: &InboxKey| {
            matches!(item, super::Item::Forget { record, .. } if record.user == key.user)
        };
        for (place, item) in items.iter().enumerate() {
            match item.clone() {
                super::Item::Entry { tenant, entry } => mixed.add_entry(&tenant, (*entry).clone()),
                super::Item::Seen { lsn, key, at } => mixed.add_seen(lsn, key, at),
                super::Item::Directory { lsn, record } => mixed.add_directory(lsn, &record),
                super::Item::Known { key, since, at } => mixed.add_known(key, since, at),
                // It is of no record, and who was forgotten since is another user.
                super::Item::Issued { key, at } => {
                    if !items[place..].iter().any(|item| forgets(item, &key)) {
                        mixed.add_issued(key, at);
                    }
                }
                super::Item::Forget { lsn, record } => mixed.add_forgotten(lsn, &record),
            }
        }
        prop_assert_eq!(&look(&mixed, last), &seen, "replayed");
        mixed.flush().unwrap();
        prop_assert_eq!(&look(&mixed, last), &seen, "replayed and written");
        let counted: bool = mixed.readers.ask(|db| db.query_row(
            "SELECT NOT EXISTS (SELECT 1 FROM counts AS c WHERE c.what <> 'channels' AND c.n <>
               (SELECT count(*) FROM members AS m WHERE m.tenant = c.tenant AND m.grp = c.what
                AND m.until_lsn IS NULL))",
            [],
            |row| row.get(0),
        )).unwrap();
        prop_assert!(counted, "the counts are those of the rows");
    }
}

#[test]
fn while_it_cannot_be_written_everything_is_read_and_nothing_lost() {
    let folder = tempfile::tempdir().unwrap();
    let shared = open(&folder);
    keep(&shared, 1, &Step::Make);
    shared.flush().unwrap();
    shared.set_writable(false);
    keep(&shared, 2, &Step::Join(0));
    keep(&shared, 3, &Step::Join(1));
    keep(&shared, 4, &Step::Send);
    assert!(shared.flush().is_err());
    let count = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        shared.ask_settled(|db| db.query_row(&sql, [], |row| row.get(0))).unwrap()
    };
    for _ in 0..2 {
        assert_eq!((count("members"), count("broadcasts"), count("users")), (2, 1, 2));
        assert_eq!(shared.size(&tenant(), &Group::Channel(room())).unwrap(), 2);
        assert_eq!(shared.waiting.lock().len(), 3, "nothing was written");
    }
    shared.set_writable(true);
    shared.flush().unwrap();
    assert_eq!((count("members"), count("broadcasts"), count("users")), (2, 1, 2));
    assert!(shared.waiting.lock().is_empty());
}

/// The counter in the file and what waits for it are read one after the other.
#[test]
fn a_size_is_right_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let shared = open(&folder);
    keep(&shared, 1, &Step::Make);
    let group = Group::Channel(room());
    let done = std::sync::atomic::AtomicBool::new(false);
    let added = std::sync::atomic::AtomicU64::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(order) {
                shared.flush().unwrap();
            }
        });
        scope.spawn(|| {
            for n in 0..3_000_u64 {
                let join = vec![format!("u{n}").parse().unwrap()];
                let record = DirectoryRecord::Members {
                    tenant: tenant(),
                    id: room(),
                    join,
                    leave: vec![],
                    at: Time::from_millis(1),
                };
                shared.add_directory(n + 2, &Arc::new(record));
                added.store(n + 1, order);
            }
            done.store(true, order);
        });
        while !done.load(order) {
            let least = added.load(order);
            let size = shared.size(&tenant(), &group).unwrap();
            let most = added.load(order) + 1;
            assert!((least..=most).contains(&size), "{size} of {least} to {most}");
        }
    });
    assert_eq!(shared.size(&tenant(), &group).unwrap(), 3_000);
}

#[test]
fn stays_in_which_nothing_was_sent_leave_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    let shared = open(&folder);
    keep(&shared, 1, &Step::Make);
    for lsn in (2..2_000).step_by(2) {
        keep(&shared, lsn, &Step::Join(0));
        if lsn == 1_000 {
            keep(&shared, lsn + 1, &Step::Send);
        } else {
            keep(&shared, lsn + 1, &Step::Leave(0));
        }
        if lsn % 50 == 0 {
            shared.flush().unwrap();
        }
    }
    shared.flush().unwrap();
    let rows = |shared: &Shared| -> i64 {
        let count = |db: &rusqlite::Connection| {
            db.query_row("SELECT count(*) FROM members", [], |row| row.get(0))
        };
        shared.readers.ask(count).unwrap()
    };
    assert_eq!(rows(&shared), 1);
    keep(&shared, 3_000, &Step::Join(1));
    keep(&shared, 3_001, &Step::End);
    shared.flush().unwrap();
    assert_eq!(rows(&shared), 1, "of those who were there at the end, nobody received anything");
}
