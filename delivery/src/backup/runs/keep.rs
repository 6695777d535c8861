//! Which runs are kept.

use std::{collections::HashSet, time::Duration};

use protocol::Time;

use super::record::RunRecord;
use crate::clock::after;

/// How long runs are kept, and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Those that are older go; none for no limit (`BACKUP_KEEP_AGE`).
    pub age: Option<Duration>,
    /// Beyond the latest so many they go; none for no limit (`BACKUP_KEEP_COUNT`).
    pub count: Option<usize>,
}

impl Keep {
    /// Which of these, in the order of time, are kept no longer. Never the latest, and never what a kept one is put
    /// on: a full run stays as long as the last of its incremental ones.
    pub(super) fn over(&self, runs: &[RunRecord], now: Time) -> Vec<String> {
        let Some((_, older)) = runs.split_last() else { return Vec::new() };
        let first_counted = runs.len().saturating_sub(self.count.unwrap_or(usize::MAX));
        let mut stays: HashSet<&str> = HashSet::new();
        for (at, run) in runs.iter().enumerate().rev() {
            let is_latest = at + 1 == runs.len();
            let is_young = self.age.is_none_or(|age| after(run.finished_at, age) > now);
            if is_latest || (is_young && at >= first_counted) || stays.contains(&*run.id) {
                stays.insert(&run.id);
                stays.extend(run.previous.as_deref());
            }
        }
        let over = older.iter().filter(|run| !stays.contains(&*run.id));
        over.map(|run| run.id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hours after the beginning; `F` a full run, `i` an incremental one.
    fn runs(kinds: &str) -> Vec<RunRecord> {
        let mut runs: Vec<RunRecord> = Vec::new();
        for (hour, kind) in kinds.chars().enumerate() {
            let at = Time::from_millis(hour as i64 * 3_600_000);
            let previous = runs.last().filter(|_| kind == 'i').cloned();
            let mut run = RunRecord::begin(at, previous.as_ref(), false);
            run.finished_at = at;
            runs.push(run);
        }
        runs
    }

    /// Which stay, by their letters, where the last was just made.
    fn stay(kinds: &str, age_hours: Option<u64>, count: Option<usize>) -> String {
        let runs = runs(kinds);
        let age = age_hours.map(Duration::from_hours);
        let over = Keep { age, count }.over(&runs, runs.last().unwrap().finished_at);
        let letter =
            |(run, kind): (&RunRecord, char)| if over.contains(&run.id) { '.' } else { kind };
        runs.iter().zip(kinds.chars()).map(letter).collect()
    }

    #[test]
    fn what_a_kept_run_is_put_on_stays() {
        assert_eq!(stay("FiiFii", None, None), "FiiFii");
        assert_eq!(stay("FFFFF", None, Some(2)), "...FF");
        assert_eq!(stay("FiiFii", None, Some(3)), "...Fii");
        assert_eq!(stay("FiiFii", None, Some(1)), "...Fii");
        // The last of the first chain is kept, and so all of it.
        assert_eq!(stay("FiiFii", None, Some(4)), "FiiFii");
        assert_eq!(stay("FiiFF", None, Some(1)), "....F");
        assert_eq!(stay("FiiFii", Some(3), None), "...Fii");
        assert_eq!(stay("FiiFii", Some(4), None), "FiiFii");
        // Both limits count.
        assert_eq!(stay("FFFFF", Some(10), Some(1)), "....F");
        assert_eq!(stay("FFFFF", Some(2), Some(4)), "...FF");
    }

    #[test]
    fn the_last_good_one_stays_however_old_it_is() {
        let runs = runs("Fi");
        let keep = Keep { age: Some(Duration::from_secs(1)), count: Some(1) };
        assert_eq!(keep.over(&runs, Time::from_millis(i64::MAX)), Vec::<String>::new());
        assert_eq!(keep.over(&[], Time::from_millis(0)), Vec::<String>::new());
    }
}
