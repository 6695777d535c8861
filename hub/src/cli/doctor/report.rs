//! What was found.

use serde::Serialize;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// A node runs with it; sooner or later somebody will wish it were otherwise.
    Warn,
    /// A node does not start with it, or does not keep what it promises.
    Fail,
}

impl Status {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One check. Never holds a secret.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    /// What was looked at, such as `clock.sync`.
    pub(super) check: &'static str,
    pub(super) status: Status,
    /// How it is.
    pub(super) found: String,
    /// What to do, where something is to be done and `found` does not say it.
    pub(super) advice: Option<String>,
}

pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Finding {
    Finding { check, status: Status::Ok, found: found.into(), advice: None }
}

pub(super) fn warn(
    check: &'static str,
    found: impl Into<String>,
    advice: impl Into<String>,
) -> Finding {
    Finding { check, status: Status::Warn, found: found.into(), advice: Some(advice.into()) }
}

pub(super) fn fail(
    check: &'static str,
    found: impl Into<String>,
    advice: impl Into<String>,
) -> Finding {
    Finding { check, status: Status::Fail, found: found.into(), advice: Some(advice.into()) }
}

/// All checks.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The worst of them.
    pub(super) status: Status,
    pub(super) checks: Vec<Finding>,
}

impl Report {
    pub(super) fn of(checks: Vec<Finding>) -> Self {
        let status = checks.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok);
        Self { status, checks }
    }

    pub(super) fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|finding| finding.status == status).count()
    }

    /// A line for each.
    pub(super) fn text(&self) -> String {
        let width = self.checks.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        let line = |Finding { check, status, found, advice }: &Finding| {
            let advice = advice.as_deref().map(|advice| format!("; {advice}")).unwrap_or_default();
            // A cause may have lines of its own.
            let text = format!("{found}{advice}").replace('\n', " ");
            format!("{:4}  {check:width$}  {text}", status.word())
        };
        self.checks.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// An error and its causes in one line.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Some repeat their causes in their own words.
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
