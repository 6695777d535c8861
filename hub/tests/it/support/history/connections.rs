//! What connections saw against what is in the inboxes.

use std::collections::{BTreeSet, HashMap};

use protocol::Status;

use super::{Change, Event, Stores, Violation, What};

struct Conn<'a> {
    user: &'a str,
    at: Place,
}

/// Where a connection stands.
#[derive(Clone, Copy)]
enum Place {
    /// It has everything up to here.
    Known(u64),
    /// The server decides, but it may not pass over what comes after this.
    From(u64),
}

pub(super) fn check(events: &[&Event], store: &Stores<'_>, found: &mut BTreeSet<Violation>) {
    let mut conns: HashMap<u64, Conn<'_>> = HashMap::new();
    let mut confirmed: HashMap<&str, u64> = HashMap::new();
    for event in events {
        match event {
            Event::Connected { conn, user, since } => {
                conns.insert(*conn, Conn { user, at: Place::Known(*since) });
            }
            Event::Resumed { conn, user, device } => {
                let confirmed = confirmed.get(device.as_str()).copied().unwrap_or_default();
                conns.insert(*conn, Conn { user, at: Place::From(confirmed) });
            }
            Event::Confirmed { device, seq } => {
                let at = confirmed.entry(device).or_default();
                *at = (*at).max(*seq);
            }
            Event::Reset { conn } => {
                conns.remove(conn);
            }
            Event::Received { conn, change } => {
                let Some(at) = conns.get_mut(conn) else { continue };
                let (conn, seq) = (*conn, change.seq);
                match at.at {
                    Place::Known(after) if seq != after + 1 => {
                        found.insert(Violation::Gap { conn, after, found: seq });
                    }
                    Place::From(confirmed) if seq > confirmed + 1 => {
                        found.insert(Violation::Skipped { conn, confirmed, found: seq });
                    }
                    Place::Known(_) | Place::From(_) => {}
                }
                at.at = Place::Known(seq);
                let Some(log) = store.logs.get(at.user) else { continue };
                // The log is dense, or a hole was reported.
                let stored = usize::try_from(seq).ok().and_then(|seq| log.get(seq.wrapping_sub(1)));
                if stored.is_none_or(|stored| !may_become(change, stored)) {
                    found.insert(Violation::Divergent { conn, seq });
                }
            }
            Event::Quiet { conn, seq } => {
                let Some(at) = conns.get(conn) else { continue };
                let head = store.logs.get(at.user).and_then(|log| log.last()).map_or(0, |c| c.seq);
                if *seq != head {
                    found.insert(Violation::Behind { conn: *conn, at: *seq, head });
                }
            }
            _ => {}
        }
    }
}

/// Whether what was seen may be told as this later: what must not be shown any more is replaced at its
/// place (contract §11).
fn may_become(seen: &Change, stored: &Change) -> bool {
    let gone =
        matches!(stored.what, What::Became(Status::Recalled | Status::Expired | Status::Collapsed));
    let shown = matches!(seen.what, What::Sent | What::Edited);
    let same_title = seen.op.is_none() || stored.op.is_none() || seen.op == stored.op;
    seen.seq == stored.seq
        && seen.message == stored.message
        && same_title
        && (seen.what == stored.what || (gone && shown))
}
