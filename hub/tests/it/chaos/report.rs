//! What came of a run, and what is kept of one that failed.

use std::{collections::BTreeSet, fmt, fs, path::PathBuf, sync::Arc, time::Duration};

use super::{
    nemesis::{NOTICED_WITHIN, Strike},
    site::{Site, name},
};
use crate::support::history::{Event, History, Violation};

/// What is wrong of what is shown.
const SHOWN: usize = 5;

pub(super) struct Report {
    pub(super) seed: u64,
    /// What senders, users and devices did and saw.
    pub(super) operations: usize,
    /// As in the campaign.
    pub(super) caught_up_within: Duration,
    pub(super) strikes: Vec<Strike>,
    pub(super) history: Arc<History>,
    pub(super) violations: BTreeSet<Violation>,
    pub(super) site: Site,
}

impl Report {
    /// Fails if anything was lost, repeated, put in another order, or too late.
    pub(super) fn is_clean(&self) {
        println!("{self}");
        let late: Vec<&Strike> =
            self.strikes.iter().filter(|strike| self.is_late(strike)).collect();
        if self.violations.is_empty() && late.is_empty() {
            return;
        }
        let mut text = format!("seed {}\n", self.seed);
        for strike in &self.strikes {
            text +=
                &format!("{strike}{}\n", if self.is_late(strike) { "  <- too late" } else { "" });
        }
        for violation in self.violations.iter().take(SHOWN) {
            text += &format!("{violation:?}\n");
            for event in self.history.about(violation) {
                text += &format!("    {event}\n");
            }
        }
        let logs = self.keep_logs();
        panic!("{} violations; logs in {}\n{text}", self.violations.len(), logs.display());
    }

    fn is_late(&self, strike: &Strike) -> bool {
        let unnoticed = strike.noticed.is_some_and(|noticed| noticed > NOTICED_WITHIN);
        unnoticed || (strike.fault.is_of_redis() && strike.caught_up > self.caught_up_within)
    }

    /// Writes what the nodes said to a folder that stays.
    fn keep_logs(&self) -> PathBuf {
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{}", self.seed));
        fs::create_dir_all(&folder).unwrap();
        for (n, (node, words)) in self.site.last_words.iter().enumerate() {
            fs::write(folder.join(format!("{node}.{n}.log")), words).unwrap();
        }
        for (n, node) in self.site.nodes.iter().enumerate() {
            fs::write(folder.join(format!("{}.log", name(n))), node.log()).unwrap();
        }
        folder
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |kind: fn(&Event) -> bool| self.history.count(kind);
        write!(
            f,
            "seed {}: {} operations ({} sends, {} answered 2xx, {} deliveries, {} confirmations, {} marks, \
             edits and recalls, {} connections), {} faults, {} violations",
            self.seed,
            self.operations,
            count(|event| matches!(event, Event::Send { .. })),
            self.history.acked(),
            count(|event| matches!(event, Event::Received { .. })),
            count(|event| matches!(event, Event::Confirmed { .. })),
            count(|event| matches!(event, Event::Write { .. })),
            count(|event| matches!(event, Event::Connected { .. } | Event::Resumed { .. })),
            self.strikes.len(),
            self.violations.len(),
        )
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        write!(f, "{:8} {:?}", seconds(self.begun), self.fault)?;
        if self.fault.is_of_one_node() {
            write!(f, " ({})", self.victim)?;
        }
        write!(f, " for {}", seconds(self.ended.saturating_sub(self.begun)))?;
        if let Some(noticed) = self.noticed {
            write!(f, ", noticed after {}", seconds(noticed))?;
        }
        let (recovered, caught_up) = (seconds(self.recovered), seconds(self.caught_up));
        write!(f, "; well {recovered} and all devices caught up {caught_up} after its end")
    }
}
