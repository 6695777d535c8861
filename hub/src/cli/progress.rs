//! How far something is, on stderr, where that is a terminal.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the bar is drawn while nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// A bar, or nothing.
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    /// Of so many things, as far as that is known.
    pub(super) fn new(words: &'static str, total: Option<u64>) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => "{msg} {wide_bar} {human_pos} of {human_len} ({eta})",
            None => "{msg} {spinner} {human_pos}",
        };
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message(words);
        bar.enable_steady_tick(TICK);
        Self(Some(bar))
    }

    /// One more is done.
    pub(super) fn advance(&self) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
