//! The groups that an inbox is and was in.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::record::Lsn;
use crate::store::Group;

/// A stay in a group. Ended ones are kept, for edits and recalls of what was received then still
/// come; those in which nothing was sent to the group are forgotten when they end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) group: Arc<Group>,
    /// The record by which it began.
    pub(super) since: Lsn,
    /// The record by which it ended, or [`Membership::OPEN`].
    pub(super) until: Lsn,
}

impl Membership {
    /// `until` of a stay that goes on. Not an `Option`: that would cost each member online 8 bytes.
    pub(super) const OPEN: Lsn = Lsn::MAX;

    pub(super) const fn is_open(&self) -> bool {
        self.until == Self::OPEN
    }

    const fn holds_at(&self, lsn: Lsn) -> bool {
        self.since < lsn && lsn < self.until
    }
}

/// A user comes to a group or leaves it, by a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) group: Arc<Group>,
    pub(super) lsn: Lsn,
    /// Comes, else leaves.
    pub(super) joins: bool,
}

/// All stays of an inbox; nothing at all for the many that are in no group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::box_collection, reason = "a word instead of three in every inbox in memory")]
pub(super) struct Memberships(Option<Box<Vec<Membership>>>);

impl From<Vec<Membership>> for Memberships {
    fn from(mut list: Vec<Membership>) -> Self {
        list.shrink_to_fit();
        Self((!list.is_empty()).then(|| Box::new(list)))
    }
}

impl Memberships {
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Membership> {
        self.0.as_ref().map_or(&[][..], |list| list).iter()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Membership> {
        self.0.as_mut().map_or(&mut [][..], |list| list).iter_mut()
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &Membership> {
        self.iter().filter(|stay| stay.is_open())
    }

    /// Those that began with a record or after it.
    pub(super) fn since(self, lsn: Lsn) -> Self {
        let stays = self.0.map(|mut list| {
            list.retain(|stay| stay.since >= lsn);
            list
        });
        Self(stays.filter(|list| !list.is_empty()))
    }

    /// Every group that it is or was in, once.
    pub(super) fn groups(&self) -> FxHashSet<&Group> {
        self.iter().map(|stay| &*stay.group).collect()
    }

    /// Whether it is in one of these groups, which are sorted, at a record.
    pub(super) fn any_at(&self, groups: &[Group], lsn: Lsn) -> bool {
        self.iter().any(|stay| stay.holds_at(lsn) && groups.binary_search(&stay.group).is_ok())
    }

    /// Whether it is in a group now.
    pub(super) fn has(&self, group: &Group) -> bool {
        self.open().any(|stay| *stay.group == *group)
    }

    /// A turn, unless it is known already: what is being read may have it or not, and what comes
    /// meanwhile is brought again. Turns of one group come in the order of their records.
    pub(super) fn turn(&mut self, turn: &Turn) {
        let own = |stay: &&mut Membership| *stay.group == *turn.group;
        if turn.joins {
            if !self.iter_mut().filter(own).any(|stay| stay.since == turn.lsn) {
                let stay = Membership {
                    group: Arc::clone(&turn.group),
                    since: turn.lsn,
                    until: Membership::OPEN,
                };
                let list = self.0.get_or_insert_default();
                // Most users are in few groups: a `Vec` would begin with room for four.
                if list.len() == list.capacity() {
                    list.reserve_exact(1 + list.len() / 4);
                }
                list.push(stay);
            }
        } else if !self.iter_mut().filter(own).any(|stay| stay.until == turn.lsn)
            && let Some(stay) = self
                .iter_mut()
                .filter(own)
                .filter(|stay| stay.is_open() && stay.since < turn.lsn)
                .max_by_key(|stay| stay.since)
        {
            stay.until = turn.lsn;
        }
    }

    /// The group has ended by a record: whoever was in it is not any more.
    pub(super) fn end(&mut self, group: &Group, lsn: Lsn) {
        for stay in self.iter_mut() {
            if *stay.group == *group && stay.is_open() && stay.since < lsn {
                stay.until = lsn;
            }
        }
    }

    /// Forgets stays that ended by a record. Answers whether another stay in the group is left.
    pub(super) fn forget(&mut self, group: &Group, until: Lsn) -> bool {
        let Some(list) = &mut self.0 else { return false };
        list.retain(|stay| *stay.group != *group || stay.until != until);
        let left = list.iter().any(|stay| *stay.group == *group);
        if list.is_empty() {
            self.0 = None;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> Arc<Group> {
        Arc::new(Group::Channel(name.parse().unwrap()))
    }

    fn turn(name: &str, lsn: Lsn, joins: bool) -> Turn {
        Turn { group: group(name), lsn, joins }
    }

    fn stays(list: &[(&str, Lsn, Option<Lsn>)]) -> Memberships {
        list.iter()
            .map(|&(name, since, until)| Membership {
                group: group(name),
                since,
                until: until.unwrap_or(Membership::OPEN),
            })
            .collect::<Vec<_>>()
            .into()
    }

    #[test]
    fn who_is_in_is_told_by_the_record() {
        let stays = stays(&[("a", 5, Some(9)), ("a", 12, None), ("b", 7, None)]);
        let groups = [Group::Channel("a".parse().unwrap()), Group::Channel("c".parse().unwrap())];
        let at: Vec<Lsn> = (4..15).filter(|lsn| stays.any_at(&groups, *lsn)).collect();
        assert_eq!(at, [6, 7, 8, 13, 14]);
        assert!(stays.has(&groups[0]) && !stays.has(&groups[1]));
        assert_eq!(stays.groups().len(), 2);
    }

    /// Whatever part of the turns was in the file when it was read, and whatever part of them comes
    /// again, the result is the same.
    #[test]
    fn turns_over_any_state_they_have_led_to_change_nothing() {
        let turns =
            [("a", 5, true), ("b", 6, true), ("a", 7, false), ("a", 9, true), ("a", 11, false)];
        let turns = turns.map(|(name, lsn, joins)| turn(name, lsn, joins));
        let expected = stays(&[("a", 5, Some(7)), ("b", 6, None), ("a", 9, Some(11))]);
        for read in 0..=turns.len() {
            for from in 0..=read {
                let mut stays = Memberships::default();
                turns[..read].iter().for_each(|turn| stays.turn(turn));
                turns[from..].iter().for_each(|turn| stays.turn(turn));
                assert_eq!(stays, expected, "{read} were read, all from {from} on came");
            }
        }
    }

    /// The file forgets a stay in which nothing was sent. A turn that ended it, brought again, must
    /// not end a later stay.
    #[test]
    fn a_leave_of_a_forgotten_stay_ends_no_later_one() {
        let mut later = stays(&[("a", 9, None)]);
        later.turn(&turn("a", 7, false));
        assert_eq!(later, stays(&[("a", 9, None)]));
    }

    #[test]
    fn the_end_of_a_group_ends_no_stay_that_began_later() {
        let mut both = stays(&[("a", 5, None), ("b", 5, None), ("a", 9, None)]);
        both.end(&group("a"), 7);
        assert_eq!(both, stays(&[("a", 5, Some(7)), ("b", 5, None), ("a", 9, None)]));
    }

    #[test]
    fn forgetting_says_whether_something_is_left() {
        let mut list = stays(&[("a", 5, Some(7)), ("a", 9, Some(11))]);
        assert!(list.forget(&group("a"), 7));
        assert!(!list.forget(&group("a"), 11));
        assert_eq!(list, Memberships::default());
    }
}
