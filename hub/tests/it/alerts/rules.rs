//! The rules of `k8s/components/monitoring/alerts.yaml`, with their times made shorter.

use std::{fs, path::Path, time::Duration};

/// An alert.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) expr: String,
    /// As it is written; nothing where it fires at once.
    pub(super) held: String,
}

/// All of them. Reads what `scripts/k8s.sh` holds to be YAML, of which only the layout of this file matters here.
pub(super) fn all() -> Vec<Rule> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/components/monitoring/alerts.yaml");
    let text = fs::read_to_string(path).unwrap();
    let mut rules: Vec<Rule> = Vec::new();
    let mut block = false;
    for line in text.lines() {
        let bare = line.trim();
        if let Some(name) = bare.strip_prefix("- alert: ") {
            rules.push(Rule { name: name.to_owned(), expr: String::new(), held: String::new() });
            continue;
        }
        let Some(rule) = rules.last_mut() else { continue };
        if let Some(expr) = bare.strip_prefix("expr: ") {
            block = expr == "|";
            if !block {
                rule.expr = expr.to_owned();
            }
        } else if block && line.starts_with("            ") {
            rule.expr.push_str(bare);
            rule.expr.push(' ');
        } else {
            block = false;
            if let Some(held) = bare.strip_prefix("for: ") {
                rule.held = held.to_owned();
            }
        }
    }
    assert!(rules.iter().all(|rule| !rule.expr.is_empty()), "{rules:#?}");
    rules
}

/// A duration of a rule, where a minute takes so long.
fn shorter(text: &str, minute: Duration) -> String {
    let (number, unit) = text.split_at(text.len() - 1);
    let minutes = match unit {
        "m" => 1,
        "h" => 60,
        _ => panic!("{text}: minutes and hours are known"),
    };
    let of_all = minute * minutes * number.parse().unwrap_or_else(|_| panic!("{text}"));
    format!("{}ms", of_all.as_millis())
}

impl Rule {
    /// `for`, where a minute takes so long.
    pub(super) fn held_for(&self, minute: Duration) -> String {
        if self.held.is_empty() { "0s".to_owned() } else { shorter(&self.held, minute) }
    }

    /// The expression, where a minute takes so long: what stands in brackets and behind `offset`. Rates are by the
    /// second, as they were.
    pub(super) fn expr_in(&self, minute: Duration) -> String {
        let mut out = String::new();
        let mut rest = self.expr.as_str();
        while let Some(at) =
            ["[", "offset "].iter().filter_map(|mark| Some(rest.find(mark)? + mark.len())).min()
        {
            let end = rest[at..].find([']', ')', ' ']).map_or(rest.len(), |end| at + end);
            out += &rest[..at];
            out += &shorter(&rest[at..end], minute);
            rest = &rest[end..];
        }
        out + rest
    }

    /// Whether its expression asks for a metric.
    pub(super) fn asks(&self, metric: &str) -> bool {
        let word = |byte: Option<char>| byte.is_some_and(|c| c.is_alphanumeric() || c == '_');
        self.expr.match_indices(metric).any(|(at, _)| {
            let before = self.expr[..at].chars().next_back();
            let after = self.expr[at + metric.len()..].chars().next();
            !word(before) && !word(after)
        })
    }
}

#[test]
fn times_become_shorter_and_rates_stay() {
    let rules = all();
    let storm = rules.iter().find(|rule| rule.name == "PushhubReconnectStorm").unwrap();
    let expr = storm.expr_in(Duration::from_millis(200));
    assert!(expr.contains("[400ms]") && expr.contains("[12000ms] offset 1000ms)"), "{expr}");
    assert!(expr.contains("> 50") && !expr.contains("m]\n"), "{expr}");
    assert_eq!(storm.held_for(Duration::from_millis(200)), "400ms");
    assert!(storm.asks("pushhub_connections_accepted_total") && !storm.asks("pushhub_connections"));
}
