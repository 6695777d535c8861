//! Says once a second how the run goes: a moving line on a terminal, plain lines elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::{checker::Checker, clock::SECOND, http_client::Http, sockets::Sockets};

/// The progress line.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    phase: String,
    next: u64,
    last: Option<(u64, u64, u64)>,
}

impl Progress {
    /// `quiet` says nothing at all.
    pub(crate) fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{elapsed_precise} {msg}");
            ProgressBar::new_spinner().with_style(style.expect("the template is valid"))
        });
        Self { bar, quiet, phase: String::new(), next: 0, last: None }
    }

    pub(crate) fn phase(&mut self, name: &str) {
        name.clone_into(&mut self.phase);
        self.next = 0;
    }

    /// Shows it, if a second has passed.
    pub(crate) fn show(&mut self, now: u64, checker: &Checker, sockets: &Sockets, http: &Http) {
        if self.quiet || now < self.next {
            return;
        }
        self.next = now + SECOND;
        let (accepted, deliveries) = (http.stats.accepted, checker.deliveries);
        let (then, accepted_then, deliveries_then) =
            self.last.unwrap_or((now, accepted, deliveries));
        let seconds = ((now - then) as f64 / SECOND as f64).max(0.001);
        let line = format!(
            "{}: {} online, {} connecting, {:.0} sends/s, {:.0} deliveries/s, {} owed",
            self.phase,
            sockets.ready,
            sockets.connecting,
            (accepted - accepted_then) as f64 / seconds,
            (deliveries - deliveries_then) as f64 / seconds,
            checker.owed(),
        );
        self.last = Some((now, accepted, deliveries));
        match &self.bar {
            Some(bar) => {
                bar.set_message(line);
                bar.tick();
            }
            None => eprintln!("{line}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
