//! The settings in force: what was given at the start, with what admins have changed since in its place. They
//! follow the control data, so that all nodes go by the same ones.

use std::sync::{Arc, OnceLock};

use delivery::{
    backup::{Area, Jobs},
    control::{Control, ControlError, LiveTexts},
    limit::Limiter,
    metrics::Metric,
    settings::{AllSettings, Setting, Settings, Source},
    store::Keeping,
};
use metrics::{Gauge, Recorder};
use parking_lot::Mutex;
use protocol::FieldProblem;

use crate::{
    config::{Config, Effective, Loaded, Origin},
    live::Live,
    telemetry::LogFilter,
};

const VERSION: Metric = Metric::gauge(
    "pushhub_settings_version",
    "",
    "Version of the live settings that this node goes by; 0 for what it was started with. The same on all nodes.",
);

const IGNORED: Metric = Metric::gauge(
    "pushhub_settings_ignored",
    "",
    "Live settings that this node cannot use and goes without; its log says which, and why.",
);

/// The metrics of this area.
pub const METRICS: &[Metric] = &[VERSION, IGNORED];

/// What takes new values while the node runs. A setting is marked live in [`crate::config::table`] when
/// [`Targets::apply`] hands it on.
pub(super) struct Targets {
    pub(super) limiter: Arc<Limiter>,
    pub(super) live: Arc<Live>,
    pub(super) keeping: Arc<Keeping>,
    pub(super) area: Arc<Area>,
    pub(super) jobs: Arc<Jobs>,
    /// None where the process's log is not this node's to change.
    pub(super) log: Option<LogFilter>,
}

impl Targets {
    /// Hands on everything that may have changed; what has not stays as it is.
    fn apply(&self, before: &Config, now: &Config) {
        self.limiter.set_rates(&now.limit);
        self.live.set_limits(now.socket.connections_max, now.socket.connections_per_user_max);
        self.keeping.set(now.store.retention, now.store.sent_kept());
        self.area.set_bytes_max(now.backup.area.bytes_max);
        self.jobs.set_bytes_max(now.backup.jobs_bytes_max);
        if let Some(log) = &self.log
            && now.log.filter != before.log.filter
            && let Err(error) = log.set(&now.log.filter)
        {
            let error = &error as &dyn std::error::Error;
            tracing::error!(target: "error", error, "the log goes on as it was");
        }
    }
}

/// How they stand.
struct State {
    version: u64,
    loaded: Loaded,
    /// Live values that cannot be used, a sentence each.
    ignored: Vec<String>,
}

/// See the module.
pub(super) struct LiveSettings {
    start: Loaded,
    control: Arc<Control>,
    state: Mutex<State>,
    targets: OnceLock<Targets>,
    tell: OnceLock<Box<dyn Fn() + Send + Sync>>,
    version: Gauge,
    ignored: Gauge,
}

impl LiveSettings {
    /// Those that a node begins with. Waits for the database.
    ///
    /// # Errors
    /// When it cannot be read. A live value that this build cannot use is none: it is logged, and what was
    /// given at the start holds.
    pub(super) fn open(
        start: Loaded,
        control: Arc<Control>,
        recorder: &dyn Recorder,
    ) -> Result<Arc<Self>, ControlError> {
        for metric in METRICS {
            metric.describe(recorder);
        }
        let latest = control.settings()?;
        let (version, live) =
            latest.map(|latest| (latest.version, latest.live)).unwrap_or_default();
        let state = usable(&start, version, live);
        let settings = Self {
            start,
            control,
            state: Mutex::new(state),
            targets: OnceLock::new(),
            tell: OnceLock::new(),
            version: VERSION.to_gauge(recorder, &[]),
            ignored: IGNORED.to_gauge(recorder, &[]),
        };
        settings.count(&settings.state.lock());
        Ok(Arc::new(settings))
    }

    /// As they are now.
    pub(super) fn config(&self) -> Config {
        self.state.lock().loaded.config.clone()
    }

    /// From here on these have the values in force, and `tell` is called when a version was saved here.
    pub(super) fn connect(
        self: &Arc<Self>,
        targets: Targets,
        tell: impl Fn() + Send + Sync + 'static,
    ) {
        let state = self.state.lock();
        // They were made with these, but for the log, which is older than the control data.
        targets.apply(&self.start.config, &state.loaded.config);
        let connected = self.targets.set(targets).is_ok();
        debug_assert!(connected, "a node is put together once");
        drop(state);
        let _ = self.tell.set(Box::new(tell));
        let weak = Arc::downgrade(self);
        self.control.after_looks(move || {
            let Some(settings) = weak.upgrade() else { return false };
            settings.follow();
            true
        });
    }

    /// Whether the control data has another version, as of its last look.
    pub(super) fn is_behind(&self) -> bool {
        self.control.settings_version() != self.state.lock().version
    }

    /// Goes by the version of the control data, if it is another one. Waits for the database then.
    pub(super) fn follow(&self) {
        if !self.is_behind() {
            return;
        }
        let mut state = self.state.lock();
        // Read under the lock, so that an older version never replaces a newer one.
        let (version, live) = match self.control.settings() {
            Ok(latest) => latest.map(|latest| (latest.version, latest.live)).unwrap_or_default(),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    "settings were changed and cannot be read; tried again in a second"
                );
                return;
            }
        };
        if version == state.version {
            return;
        }
        let next = usable(&self.start, version, live);
        if let Some(targets) = self.targets.get() {
            targets.apply(&state.loaded.config, &next.loaded.config);
        }
        *state = next;
        self.count(&state);
        tracing::info!(target: "business", event = "settings_changed", version, "settings are in force");
    }

    fn count(&self, state: &State) {
        self.version.set(state.version as f64);
        self.ignored.set(state.ignored.len() as f64);
    }
}

/// What of live values can be used, beside what was given at the start; the rest is logged.
fn usable(start: &Loaded, version: u64, mut live: LiveTexts) -> State {
    let mut ignored = Vec::new();
    let loaded = loop {
        let error = match start.with_live(&live) {
            Ok(loaded) => break loaded,
            Err(error) => error,
        };
        let before = live.len();
        for problem in &error.problems {
            if live.remove(&problem.name).is_some() {
                ignored.push(format!("{}: {}", problem.name, problem.text));
            }
        }
        if live.len() == before {
            // It is told at what was given at the start that the two do not go together, or a file that
            // settings name is another one by now.
            ignored.extend(live.keys().map(|name| format!("{name}: {error}")));
            break start.clone();
        }
    };
    for text in &ignored {
        tracing::warn!("the live value of {text}; going by what was given at the start");
    }
    State { version, loaded, ignored }
}

/// As admins see them.
fn shown(start: &Loaded, loaded: &Loaded, ignored: &[String]) -> AllSettings {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let one = |(given, now): (&Effective, &Effective)| {
        let source = match now.origin {
            Origin::Default => Source::Default,
            Origin::File(_) | Origin::SecretFile(_) => Source::File,
            Origin::Environment => Source::Environment,
            Origin::Live => Source::Live,
        };
        Setting {
            name: now.setting.name,
            value: text(&now.text),
            source,
            without_live: text(&given.text).filter(|_| source == Source::Live),
            default: Some(now.setting.default).filter(|default| !default.is_empty()),
            live: now.setting.live,
            allowed: now.setting.kind.allowed(),
            meaning: now.setting.meaning,
        }
    };
    let settings = start.effective.iter().zip(&loaded.effective).map(one).collect();
    let warnings = loaded.warnings.iter().chain(ignored).cloned().collect();
    AllSettings { settings, warnings }
}

impl Settings for LiveSettings {
    fn in_force(&self) -> (u64, AllSettings) {
        let state = self.state.lock();
        (state.version, shown(&self.start, &state.loaded, &state.ignored))
    }

    fn with(&self, live: &LiveTexts) -> Result<AllSettings, Vec<FieldProblem>> {
        match self.start.with_live(live) {
            Ok(loaded) => Ok(shown(&self.start, &loaded, &[])),
            Err(error) => {
                let problem = |problem: crate::config::Problem| FieldProblem {
                    path: problem.name,
                    problem: problem.text,
                };
                Err(error.problems.into_iter().map(problem).collect())
            }
        }
    }

    fn saved(&self) {
        self.follow();
        if let Some(tell) = self.tell.get() {
            tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn what_cannot_be_used_is_left_out_and_the_rest_holds() {
        let given = texts(&[("RATE_LIMIT_USER", "9/s"), ("WS_MAX_CONNECTIONS", "7")]);
        let start = Config::load(&given, None).unwrap();
        let live = texts(&[
            ("RATE_LIMIT_USER", "4/s"),
            ("WS_MAX_CONNECTIONS", "none"),
            ("USER_SERVER_PORT", "1"),
            ("OF_A_NEWER_BUILD", "1"),
        ]);
        let state = usable(&start, 3, live);
        assert_eq!(state.loaded.config.limit.user, "4/s".parse().ok());
        assert_eq!(state.loaded.config.socket.connections_max, 7);
        let mut names: Vec<_> =
            state.ignored.iter().filter_map(|text| text.split(':').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["OF_A_NEWER_BUILD", "USER_SERVER_PORT", "WS_MAX_CONNECTIONS"]);
        let all = shown(&start, &state.loaded, &state.ignored);
        let one = |name: &str| all.settings.iter().find(|setting| setting.name == name).unwrap();
        let user = one("RATE_LIMIT_USER");
        let told = (user.source, user.value.as_deref(), user.without_live.as_deref());
        assert_eq!(told, (Source::Live, Some("4/s"), Some("9/s")));
        assert_eq!(one("WS_MAX_CONNECTIONS").source, Source::Environment);
        assert_eq!(all.warnings.len(), 3);
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = "a secret of thirty-two bytes or more";
        let start = Config::load(&texts(&[("JWT_SECRET", secret)]), None).unwrap();
        let shown = shown(&start, &start, &[]);
        assert!(!serde_json::to_string(&shown.settings).unwrap().contains(secret));
        assert!(!format!("{start:?}").contains(secret));
    }
}
