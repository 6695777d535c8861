//! What `/metrics` said while something went wrong, and whether a rule fires on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::SocketAddr,
    path::Path,
    pin::pin,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::rules::{self, Rule};
use crate::support::server::ADMIN_TOKEN;

/// Pause between two looks.
const TICK: Duration = Duration::from_millis(100);

/// Longest wait for an answer: Prometheus's own, less what the shortened minutes leave of it.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(3);

/// Samples by series; none where the server did not answer.
type Scrape = Option<BTreeMap<String, String>>;

pub(super) struct Recording {
    /// How long a minute of the rules takes.
    minute: Duration,
    began: Instant,
    http: reqwest::Client,
    scrapes: BTreeMap<usize, Scrape>,
    /// Until here nothing was wrong.
    quiet: usize,
}

impl Recording {
    pub(super) fn new(minute: Duration) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(SCRAPE_TIMEOUT).build().unwrap();
        let scrapes = BTreeMap::new();
        Self { minute, began: Instant::now(), http, scrapes, quiet: 0 }
    }

    fn now(&self) -> usize {
        usize::try_from(self.began.elapsed().as_millis() / TICK.as_millis()).unwrap()
    }

    async fn scrape(&self, admin: SocketAddr) -> Scrape {
        let request = self.http.get(format!("http://{admin}/metrics")).bearer_auth(ADMIN_TOKEN);
        let answer = request.send().await.ok()?.error_for_status().ok()?;
        let text = answer.text().await.ok()?;
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            (!series.starts_with('#')).then(|| (series.to_owned(), value.to_owned()))
        };
        Some(text.lines().filter_map(sample).collect())
    }

    /// Looks at a server's metrics until `end` is reached.
    pub(super) async fn during<T>(&mut self, admin: SocketAddr, end: impl Future<Output = T>) -> T {
        let mut end = pin!(end);
        loop {
            let tick = self.now();
            let scrape = self.scrape(admin).await;
            self.scrapes.insert(tick, scrape);
            let next = self.began + TICK * u32::try_from(tick + 1).unwrap();
            tokio::select! {
                done = &mut end => return done,
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }

    /// For so many of the rules' minutes.
    pub(super) async fn minutes(&mut self, admin: SocketAddr, minutes: u32) {
        self.during(admin, tokio::time::sleep(self.minute * minutes)).await;
    }

    /// The time before anything is wrong: no rule may fire in it.
    pub(super) async fn quiet(&mut self, admin: SocketAddr) {
        self.minutes(admin, 6).await;
        // The look that is still to come in this tick may be the first one of the fault.
        self.quiet = self.now() - 1;
    }

    /// Every series as promtool has it: a value or `_` for each tick, `stale` where the server stopped to answer.
    fn series(&self, rules: &[Rule]) -> Vec<Value> {
        let last = *self.scrapes.keys().next_back().expect("there was a look");
        let name = |series: &str| series.split('{').next().unwrap_or_default().to_owned();
        let all: BTreeSet<&String> =
            self.scrapes.values().flatten().flat_map(|one| one.keys()).collect();
        let wanted =
            all.into_iter().filter(|series| rules.iter().any(|rule| rule.asks(&name(series))));
        let labelled = |series: &str| {
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let comma = if labels == "}" { "" } else { "," };
            let labels = labels.trim_end_matches('}');
            format!("{name}{{{labels}{comma}job=\"pushhub\",namespace=\"n\",pod=\"a\"}}")
        };
        let values = |of: &dyn Fn(&BTreeMap<String, String>) -> Option<String>| {
            let mut there = false;
            let one = |tick| match self.scrapes.get(&tick) {
                None => "_".to_owned(),
                Some(scrape) => match scrape.as_ref().and_then(of) {
                    Some(value) => {
                        there = true;
                        value
                    }
                    None if std::mem::take(&mut there) => "stale".to_owned(),
                    None => "_".to_owned(),
                },
            };
            (0..=last).map(one).collect::<Vec<_>>().join(" ")
        };
        let mut out: Vec<Value> = wanted
            .map(|series| {
                let values = values(&|scrape| scrape.get(series).cloned());
                json!({"series": labelled(series), "values": values})
            })
            .collect();
        let up = |tick| match self.scrapes.get(&tick) {
            None => "_",
            Some(None) => "0",
            Some(Some(_)) => "1",
        };
        let up = (0..=last).map(up).collect::<Vec<_>>().join(" ");
        out.push(json!({"series": labelled("up"), "values": up}));
        out
    }

    /// Each of these alerts is raised by what was seen, and none before anything was wrong.
    pub(super) fn raises(&self, alerts: &[&str]) {
        let rules: Vec<Rule> =
            rules::all().into_iter().filter(|rule| alerts.contains(&rule.name.as_str())).collect();
        assert_eq!(rules.len(), alerts.len(), "{alerts:?} are rules");
        let end =
            (self.scrapes.len().max(self.now()) + 1) * usize::try_from(TICK.as_millis()).unwrap();
        let quiet = self.quiet * usize::try_from(TICK.as_millis()).unwrap();
        let written = rules.iter().map(|rule| {
            json!({
                "alert": rule.name,
                "expr": rule.expr_in(self.minute),
                "for": rule.held_for(self.minute),
            })
        });
        let written: Vec<Value> = written.collect();
        let tests = rules.iter().flat_map(|rule| {
            let fired = format!(
                "count(max_over_time(ALERTS{{alertname=\"{}\",alertstate=\"firing\"}}[1d]))",
                rule.name
            );
            [
                json!({"expr": fired, "eval_time": format!("{quiet}ms"), "exp_samples": []}),
                json!({
                    "expr": format!("{fired} > bool 0"),
                    "eval_time": format!("{end}ms"),
                    "exp_samples": [{"labels": "{}", "value": 1}],
                }),
            ]
        });
        let tests: Vec<Value> = tests.collect();
        let suite = json!({
            "rule_files": ["rules.json"],
            "evaluation_interval": "100ms",
            "tests": [{
                "interval": "100ms",
                "input_series": self.series(&rules),
                "promql_expr_test": tests,
            }],
        });
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, value: &Value| {
            std::fs::write(folder.path().join(name), value.to_string()).unwrap();
        };
        write("rules.json", &json!({"groups": [{"name": "pushhub", "rules": written}]}));
        write("tests.json", &suite);
        let promtool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/promtool");
        let program = if promtool.exists() { promtool } else { "promtool".into() };
        let told = Command::new(program)
            .args(["test", "rules", "tests.json"])
            .current_dir(folder.path())
            .output()
            .expect("promtool: scripts/tools.sh gets it");
        if !told.status.success() {
            let kept = folder.keep();
            panic!(
                "{}{}(the samples are in {})",
                String::from_utf8_lossy(&told.stdout),
                String::from_utf8_lossy(&told.stderr),
                kept.display()
            );
        }
    }
}
