//! A measured stretch of a run: what was done in it, and what it cost both sides.

use super::{Run, seconds};
use crate::{clock, machine, server_stats::Usage};

/// The state at the beginning of a stretch.
pub(crate) struct Phase {
    begun: u64,
    server: Option<Usage>,
    own_cpu_s: f64,
    accepted: u64,
    deliveries: u64,
}

/// What a stretch brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub(crate) seconds: f64,
    pub(crate) accepted: f64,
    pub(crate) deliveries: f64,
    pub(crate) own_cpu_s: f64,
    pub(crate) server_cpu_s: Option<f64>,
    /// Resident bytes of the server at its end, and how many came in it.
    pub(crate) server_rss: Option<(f64, f64)>,
}

impl Phase {
    /// Begins now.
    pub(crate) fn begin(run: &Run) -> Self {
        Self {
            server: usage(run),
            own_cpu_s: machine::own_cpu_s(),
            accepted: run.engine.http.stats.accepted,
            deliveries: run.engine.checker.deliveries,
            begun: clock::now(),
        }
    }

    /// Ends now.
    pub(crate) fn end(&self, run: &Run) -> Stretch {
        let now = clock::now();
        let own_cpu_s = machine::own_cpu_s() - self.own_cpu_s;
        let both = self.server.zip(usage(run));
        Stretch {
            seconds: seconds(self.begun, now),
            accepted: (run.engine.http.stats.accepted - self.accepted) as f64,
            deliveries: (run.engine.checker.deliveries - self.deliveries) as f64,
            own_cpu_s,
            server_cpu_s: both.map(|(before, after)| after.cpu_s - before.cpu_s),
            server_rss: both.map(|(before, after)| (after.rss, after.rss - before.rss)),
        }
    }
}

impl Stretch {
    /// Writes it as figures: rates, and CPU on each side per `unit` (deliveries, connects …), of
    /// which there were `count`.
    pub(crate) fn report(&self, run: &mut Run, unit: &str, count: f64) {
        let report = &mut run.report;
        report.set("seconds", self.seconds);
        report.set("sends_per_s", self.accepted / self.seconds);
        report.set("deliveries_per_s", self.deliveries / self.seconds);
        let count = count.max(1.0);
        report.set("generator.cpu_s", self.own_cpu_s);
        report.set(format!("generator.cpu_us_per_{unit}"), self.own_cpu_s * 1e6 / count);
        if let Some(cpu_s) = self.server_cpu_s {
            report.set("server.cpu_s", cpu_s);
            report.set(format!("server.cpu_us_per_{unit}"), cpu_s * 1e6 / count);
            // What of the work both did was the generator's: it would be another machine's in life.
            let all = (cpu_s + self.own_cpu_s).max(1e-9);
            report.set("generator.share_of_cpu", self.own_cpu_s / all);
        }
        if let Some((rss, grown)) = self.server_rss {
            report.set("server.rss_mib", rss / f64::from(1 << 20));
            report.set("server.rss_grown_mib", grown / f64::from(1 << 20));
        }
    }
}

fn usage(run: &Run) -> Option<Usage> {
    if run.has_server { run.server.usage().ok() } else { None }
}
