//! What was sent against what is in the inboxes.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Event, Op, Stores, Violation, What};

pub(super) fn check(events: &[&Event], store: &Stores<'_>, found: &mut BTreeSet<Violation>) {
    let mut sent: HashMap<Op, &[String]> = HashMap::new();
    let mut refused: HashSet<Op> = HashSet::new();
    // Per user, the highest seq of what was answered so far: what is sent now comes behind it.
    let mut floor: HashMap<&str, u64> = HashMap::new();
    for event in events {
        match event {
            Event::Send { op, users } => {
                sent.insert(*op, users);
                for user in users {
                    if let Some(seq) = store.seqs.get(&(user.as_str(), *op))
                        && floor.get(user.as_str()).is_some_and(|floor| seq < floor)
                    {
                        found.insert(Violation::Order { op: *op, user: user.clone() });
                    }
                }
            }
            Event::Acked { op, .. } => {
                for user in sent.get(op).copied().unwrap_or_default() {
                    match store.seqs.get(&(user.as_str(), *op)) {
                        Some(seq) => {
                            let floor = floor.entry(user).or_default();
                            *floor = (*floor).max(*seq);
                        }
                        None if store.logs.contains_key(user.as_str()) => {
                            found.insert(Violation::Lost { op: *op, user: user.clone() });
                        }
                        None => {}
                    }
                }
            }
            Event::Refused { op } => {
                refused.insert(*op);
            }
            _ => {}
        }
    }
    check_logs(store, &sent, &refused, found);
    check_deliveries(events, store, &sent, found);
}

fn check_logs(
    store: &Stores<'_>,
    sent: &HashMap<Op, &[String]>,
    refused: &HashSet<Op>,
    found: &mut BTreeSet<Violation>,
) {
    for (&user, log) in &store.logs {
        let (mut last, mut begun) = (0, HashMap::new());
        for change in *log {
            let user = user.to_owned();
            if change.seq != last + 1 {
                found.insert(Violation::Hole {
                    user: user.clone(),
                    after: last,
                    found: change.seq,
                });
            }
            last = change.seq;
            let op = store.op(change);
            // Of one message there may be many changes. Another message that says the same is the send again.
            let first = begun.insert(op, change.message);
            let again = change.what == What::Sent && first.is_some();
            if again || first.is_some_and(|message| message != change.message) {
                found.insert(Violation::Repeated { op, user: user.clone() });
            }
            if refused.contains(&op) {
                found.insert(Violation::Resurrected { op, user: user.clone() });
            }
            if !is_for(sent, op, &user) {
                found.insert(Violation::Foreign { op, user });
            }
        }
    }
}

/// What a connection got must have been for its user, whatever the store says of it in the end.
fn check_deliveries(
    events: &[&Event],
    store: &Stores<'_>,
    sent: &HashMap<Op, &[String]>,
    found: &mut BTreeSet<Violation>,
) {
    let mut users: HashMap<u64, &str> = HashMap::new();
    for event in events {
        match event {
            Event::Connected { conn, user, .. } | Event::Resumed { conn, user, .. } => {
                users.insert(*conn, user);
            }
            Event::Received { conn, change } => {
                let (op, user) = (store.op(change), users.get(conn).copied().unwrap_or_default());
                if !is_for(sent, op, user) {
                    found.insert(Violation::Foreign { op, user: user.to_owned() });
                }
            }
            _ => {}
        }
    }
}

fn is_for(sent: &HashMap<Op, &[String]>, op: Op, user: &str) -> bool {
    sent.get(&op).is_some_and(|users| users.iter().any(|this| this == user))
}
