//! Whether the last write counts, where it can be said which was the last.

use std::collections::{BTreeSet, HashMap};

use super::{ARCHIVED, Event, Register, Violation};

/// A write, by the places of its begin and its answer in the history.
struct Write {
    value: u64,
    begin: usize,
    /// None where nobody knows whether it happened, and when.
    end: Option<usize>,
    refused: bool,
}

impl Register {
    /// What cannot be overwritten.
    const fn is_for_good(&self, value: u64) -> bool {
        match self {
            Self::Mark { .. } => value == ARCHIVED,
            Self::Recall { .. } => value == 1,
            Self::Text { .. } => false,
        }
    }
}

pub(super) fn check(events: &[&Event], found: &mut BTreeSet<Violation>) {
    let mut registers: HashMap<&Register, Vec<Write>> = HashMap::new();
    let mut places: HashMap<u64, (&Register, usize)> = HashMap::new();
    for (now, event) in events.iter().enumerate() {
        match event {
            Event::Write { write, register, value } => {
                let writes = registers.entry(register).or_default();
                places.insert(*write, (register, writes.len()));
                writes.push(Write { value: *value, begin: now, end: None, refused: false });
            }
            Event::Written { write } | Event::NotWritten { write } => {
                let Some((register, at)) = places.get(write) else { continue };
                let Some(write) = registers.get_mut(*register).and_then(|all| all.get_mut(*at))
                else {
                    continue;
                };
                write.end = Some(now);
                write.refused = matches!(event, Event::NotWritten { .. });
            }
            _ => {}
        }
    }
    for event in events {
        if let Event::Holds { who, register, value } = event {
            let writes = registers.get(register).map(Vec::as_slice).unwrap_or_default();
            if !may_hold(register, writes, *value) {
                found.insert(Violation::Stale {
                    who: who.clone(),
                    register: register.clone(),
                    value: *value,
                });
            }
        }
    }
}

fn may_hold(register: &Register, writes: &[Write], value: u64) -> bool {
    let done = || writes.iter().filter(|write| !write.refused);
    let wrote = |value: u64| done().any(|write| write.value == value);
    if register.is_for_good(value) {
        return wrote(value);
    }
    if done().any(|write| register.is_for_good(write.value) && write.end.is_some()) {
        return false;
    }
    // The first value is a write that ended before all others.
    let mut candidates = done().filter(|write| write.value == value).map(|write| write.end);
    let first = (value == 0).then_some(Some(0));
    first.into_iter().chain(&mut candidates).any(|end| {
        // Nothing that was answered began when this one had been answered.
        end.is_none_or(|end| !done().any(|later| later.end.is_some() && later.begin >= end))
    })
}
