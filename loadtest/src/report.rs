//! The figures of a run, what was demanded of them, and how both are written down.

use std::{fmt::Write as _, str::FromStr};

use serde_json::{Map, Value, json};

use crate::{machine::Machine, timings::Latency};

/// What every run is held to, unless a bound on the same figure says otherwise.
const DEFAULT_BOUNDS: [&str; 7] = [
    "lost=0",
    "duplicated=0",
    "reordered=0",
    "foreign=0",
    "corrupt=0",
    "stored_twice=0",
    "refused_arrived=0",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    Greater,
    AtLeast,
    Equal,
}

/// A demand: `push.p99_ms<2`, `lost=0`, `rate>25000`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bound {
    text: String,
    figure: String,
    comparison: Comparison,
    value: f64,
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "a bound is FIGURE<NUMBER, <=, >, >= or =";
        let at = text.find(['<', '>', '=']).ok_or(FORM)?;
        let (figure, rest) = text.split_at(at);
        let forms = [
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("==", Comparison::Equal),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
            ("=", Comparison::Equal),
        ];
        let (comparison, number) = forms
            .iter()
            .find_map(|(sign, comparison)| Some((*comparison, rest.strip_prefix(sign)?)))
            .ok_or(FORM)?;
        let value = number.trim().parse().map_err(|_| format!("{number}: no number; {FORM}"))?;
        let figure = figure.trim().to_owned();
        if figure.is_empty() {
            return Err(FORM.to_owned());
        }
        Ok(Self { text: text.to_owned(), figure, comparison, value })
    }
}

impl Bound {
    fn holds(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::Less => value < self.value,
            Comparison::AtMost => value <= self.value,
            Comparison::Greater => value > self.value,
            Comparison::AtLeast => value >= self.value,
            Comparison::Equal => (value - self.value).abs() < f64::EPSILON,
        }
    }
}

/// The figures of a run.
pub(crate) struct Report {
    scenario: &'static str,
    command: String,
    figures: Vec<(String, f64)>,
    notes: Vec<String>,
    bounds: Vec<Bound>,
}

impl Report {
    pub(crate) fn new(scenario: &'static str, command: String, own: &[Bound]) -> Self {
        let mut bounds: Vec<Bound> = DEFAULT_BOUNDS
            .iter()
            .map(|text| text.parse().expect("default bounds are well formed"))
            .filter(|bound: &Bound| !own.iter().any(|own| own.figure == bound.figure))
            .collect();
        bounds.extend_from_slice(own);
        Self { scenario, command, figures: Vec::new(), notes: Vec::new(), bounds }
    }

    /// Sets a figure; the last value counts.
    pub(crate) fn set(&mut self, name: impl Into<String>, value: f64) {
        let name = name.into();
        match self.figures.iter_mut().find(|(known, _)| *known == name) {
            Some(figure) => figure.1 = value,
            None => self.figures.push((name, value)),
        }
    }

    /// Sets the figures of a distribution, if it has any values.
    pub(crate) fn latency(&mut self, name: &str, latency: &Latency) {
        if latency.count() == 0 {
            return;
        }
        let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];
        for (label, quantile) in quantiles {
            self.set(format!("{name}.{label}_ms"), latency.quantile_ms(quantile));
        }
        self.set(format!("{name}.max_ms"), latency.max_ms());
        self.set(format!("{name}.mean_ms"), latency.mean_ms());
        self.set(format!("{name}.count"), latency.count() as f64);
    }

    /// A sentence for the reader.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// A figure.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The bounds that do not hold, in words. A figure that the run did not make is a miss: a
    /// misspelt bound must not pass for a kept one.
    pub(crate) fn missed(&self) -> Vec<String> {
        self.bounds
            .iter()
            .filter_map(|bound| match self.get(&bound.figure) {
                Some(value) if bound.holds(value) => None,
                Some(value) => Some(format!("{} (it is {})", bound.text, shown(value))),
                None => Some(format!("{} (this run has no such figure)", bound.text)),
            })
            .collect()
    }

    /// Everything, for machines.
    pub(crate) fn json(&self, machine: &Machine, commit: Option<&str>, unix_time: u64) -> Value {
        let figures: Map<String, Value> =
            self.figures.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let bounds: Vec<&str> = self.bounds.iter().map(|bound| bound.text.as_str()).collect();
        json!({
            "scenario": self.scenario,
            "command": self.command,
            "commit": commit,
            "unix_time": unix_time,
            "machine": machine,
            "figures": figures,
            "bounds": bounds,
            "missed": self.missed(),
            "notes": self.notes,
        })
    }

    /// One line, for machines that read stdout.
    pub(crate) fn summary(&self, commit: Option<&str>) -> Value {
        let figures: Map<String, Value> =
            self.figures.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let missed = self.missed();
        json!({
            "scenario": self.scenario,
            "commit": commit,
            "ok": missed.is_empty(),
            "missed": missed,
            "figures": figures,
        })
    }

    /// Everything, for people.
    pub(crate) fn text(&self, machine: &Machine, commit: Option<&str>) -> String {
        let mut text = String::new();
        let width = self.figures.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let _ = writeln!(text, "{}  ({})", self.scenario, self.command);
        let _ = writeln!(
            text,
            "{}, {} cores, Linux {}, commit {}",
            machine.cpu,
            machine.cores,
            machine.kernel,
            commit.unwrap_or("unknown")
        );
        let mut group = "";
        for (name, value) in &self.figures {
            let head = name.split_once('.').map_or("", |(head, _)| head);
            if head != group {
                text.push('\n');
                group = head;
            }
            let _ = writeln!(text, "  {name:<width$}  {}", shown(*value));
        }
        for note in &self.notes {
            let _ = write!(text, "\nnote: {note}");
        }
        let missed = self.missed();
        if missed.is_empty() {
            let kept: Vec<&str> = self.bounds.iter().map(|bound| bound.text.as_str()).collect();
            let _ = write!(text, "\nall bounds hold: {}\n", kept.join(", "));
        }
        for bound in missed {
            let _ = write!(text, "\nMISSED {bound}");
        }
        text.push('\n');
        text
    }
}

fn shown(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value.abs() >= 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

/// The command line without its secrets, for the record.
pub(crate) fn redacted(arguments: impl Iterator<Item = String>) -> String {
    const SECRETS: [&str; 3] = ["--jwt-secret", "--service-key", "--admin-token"];
    let mut hide_next = false;
    let shown: Vec<String> = arguments
        .map(|argument| {
            if std::mem::take(&mut hide_next) {
                return "***".to_owned();
            }
            let name = argument.split_once('=').map_or(argument.as_str(), |(name, _)| name);
            if !SECRETS.contains(&name) {
                return argument;
            }
            if name.len() == argument.len() {
                hide_next = true;
                return argument;
            }
            format!("{name}=***")
        })
        .collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(bounds: &[&str]) -> Report {
        let bounds: Vec<Bound> = bounds.iter().map(|text| text.parse().unwrap()).collect();
        let mut report = Report::new("send", String::new(), &bounds);
        for name in DEFAULT_BOUNDS {
            report.set(name.trim_end_matches("=0"), 0.0);
        }
        report
    }

    #[test]
    fn bounds_are_held_and_missed() {
        let mut report = report(&["push.p99_ms<2", "rate>=25000", "lost<=3"]);
        report.set("push.p99_ms", 1.99);
        report.set("rate", 25_000.0);
        report.set("lost", 3.0);
        assert!(report.missed().is_empty(), "{:?}", report.missed());
        report.set("push.p99_ms", 2.0);
        report.set("lost", 4.0);
        assert_eq!(report.missed(), ["push.p99_ms<2 (it is 2)", "lost<=3 (it is 4)"]);
    }

    #[test]
    fn the_default_bounds_see_each_fault() {
        for name in DEFAULT_BOUNDS {
            let mut report = report(&[]);
            report.set(name.trim_end_matches("=0"), 1.0);
            assert_eq!(report.missed().len(), 1, "{name}");
        }
    }

    #[test]
    fn a_bound_on_no_figure_is_missed() {
        assert_eq!(report(&["push.p98_ms<2"]).missed().len(), 1);
    }

    #[test]
    fn what_is_no_bound() {
        for text in ["lost", "<3", "lost<x", "=", "lost~3"] {
            assert!(text.parse::<Bound>().is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_stay_out_of_the_record() {
        let line = "loadtest send --jwt-secret abc --service-key=phk_x --users 3";
        let line = redacted(line.split(' ').map(str::to_owned));
        assert_eq!(line, "loadtest send --jwt-secret *** --service-key=*** --users 3");
    }
}
