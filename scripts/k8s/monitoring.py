"""Alerts and dashboard: every name they use is a metric of the product, and every alert fires and stays silent."""

import json
import re
import subprocess

import yaml

from manifests import ROOT

FOLDER = ROOT / "k8s/components/monitoring"
WORK = ROOT / "target/k8s/rules"

# What scrapes add to every series.
TARGET_LABELS = {"job", "instance", "namespace", "pod", "le"}

# Of the process by convention, and of the scrape itself; hub/src/process_metrics.rs writes the former.
PROCESS_METRICS = (
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
)
SCRAPE_METRICS = ("up",)


def known_metrics() -> dict[str, set[str]]:
    """Names and labels, of the README's table, which a test of the product holds to the code."""
    text = (ROOT / "README.md").read_text()
    table = text[text.index("<!-- metrics -->") :]
    table = table[: table.index("<!-- end -->")]
    metrics = {name: set() for name in PROCESS_METRICS + SCRAPE_METRICS}
    for name, kind, labels in re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*) \|", table, re.M):
        names = [f"{name}{end}" for end in ("_bucket", "_sum", "_count")] if kind == "histogram" else [name]
        for each in names:
            metrics[each] = {label for label in labels.split(", ") if label}
    return metrics


def query_problems(query: str, metrics: dict[str, set[str]]) -> list[str]:
    """Names and labels in a query that no series has."""
    bare = re.sub(r'"[^"]*"', '""', query)
    names = set(re.findall(r"\b(?:pushhub_|process_)\w+|\bup\b", bare))
    problems = [f"{name} is no metric" for name in names if name not in metrics]
    if not names:
        problems.append("asks for no metric of ours")
    labels = TARGET_LABELS.union(*(metrics.get(name, set()) for name in names))
    used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", bare))
    for group in re.findall(r"\bby\s*\(([^)]*)\)", bare):
        used |= {label.strip() for label in group.split(",")}
    return problems + [f"{label} is no label of {', '.join(sorted(names))}" for label in used - labels]


def value_problems(query: str, scraped: dict[str, dict[str, set[str]]], elsewhere: tuple[str, ...] = ()) -> list[str]:
    """Values of labels that no series has, such as a reason that was renamed. Every series is there from the start,
    but for those `elsewhere`, by how their names begin."""
    problems = []
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", query):
        if name.startswith(elsewhere):
            continue
        for label, values in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', matchers):
            if label in TARGET_LABELS or "$" in values:
                continue
            known = scraped.get(name, {}).get(label, set())
            problems += [f'no series {name}{{{label}="{value}"}}' for value in values.split("|") if value not in known]
    return problems


def queries() -> list[str]:
    """All of the alerts and the dashboard."""
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["spec"]["groups"]
    board = json.loads((FOLDER / "dashboard.json").read_text())
    return [rule["expr"] for group in groups for rule in group["rules"]] + [
        each for _, each in dashboard_queries(board)
    ]


def promtool(*arguments: str) -> list[str]:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]


def alert_problems(metrics, groups=None, cases=None) -> list[str]:
    groups = groups or yaml.safe_load((FOLDER / "alerts.yaml").read_text())["spec"]["groups"]
    cases = cases if cases is not None else yaml.safe_load((FOLDER / "alerts.test.yaml").read_text())
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"]}
    problems = []
    for name, rule in rules.items():
        problems += [f"{name}: {text}" for text in query_problems(rule["expr"], metrics)]
        if rule["labels"].get("severity") not in ("critical", "warning"):
            problems.append(f"{name}: severity is not critical or warning")
        for annotation in ("summary", "runbook"):
            if not rule["annotations"].get(annotation):
                problems.append(f"{name}: no {annotation}")
    for part in ("fires", "silent"):
        tested = [case["alert"] for case in cases if part in case]
        problems += [f"{name}: no test in which it {part}" for name in rules if name not in tested]
    problems += [f"{case['alert']}: a test without an alert" for case in cases if case["alert"] not in rules]
    if problems:
        return problems

    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    tests = [promtool_test(rules[case["alert"]], case, part) for case in cases for part in ("fires", "silent")]
    suite = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (WORK / "tests.yaml").write_text(yaml.safe_dump(suite))
    return promtool("check", "rules", str(WORK / "rules.yaml")) + promtool("test", "rules", str(WORK / "tests.yaml"))


def promtool_test(rule: dict, case: dict, part: str) -> dict:
    told = case[part]
    expected = []
    if part == "fires":
        labels = dict(told["labels"])
        if "namespace" not in told.get("without", []):
            labels.setdefault("namespace", "n")
        text = {key: render(value, labels, told.get("value")) for key, value in rule["annotations"].items()}
        expected = [{"exp_labels": labels | rule["labels"], "exp_annotations": text}]
    series = [{"series": with_target(name), "values": str(values)} for name, values in told["series"].items()]
    return {
        "name": f"{case['alert']} {part}",
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [{"eval_time": told["at"], "alertname": case["alert"], "exp_alerts": expected}],
    }


def with_target(series: str) -> str:
    name, _, labels = series.partition("{")
    labels = [label for label in labels.rstrip("}").split(",") if label]
    for label, value in (("namespace", "n"), ("pod", "a")):
        if not any(have.startswith(f"{label}=") for have in labels):
            labels.append(f'{label}="{value}"')
    return f"{name}{{{','.join(labels)}}}"


def render(text: str, labels: dict[str, str], value) -> str:
    """An annotation as Prometheus writes it; the value's form is the test's to say."""
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels.get(found[1], "<no value>"), text)
    return re.sub(r"\{\{ \$value[^}]* \}\}", lambda _: str(value), text)


def dashboard_queries(board: dict) -> list[tuple[str, str]]:
    found = []
    for panel in board["panels"]:
        found += [(panel["title"], target["expr"]) for target in panel.get("targets", [])]
    found += [(each["name"], each["expr"]) for each in board["annotations"]["list"]]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            query = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
            found.append((variable["name"], f"count by ({query[2]}) ({query[1]})"))
    return found


def dashboard_problems(metrics, board=None) -> list[str]:
    board = board or json.loads((FOLDER / "dashboard.json").read_text())
    problems, rules = [], []
    variables = {variable["name"] for variable in board["templating"]["list"]} | {"__rate_interval"}
    for place, query in dashboard_queries(board):
        problems += [f"{place}: {text}" for text in query_problems(query, metrics)]
        problems += [
            f"{place}: ${name} is no variable" for name in re.findall(r"\$(\w+)", query) if name not in variables
        ]
        plain = query.replace("$__rate_interval", "5m").replace("$quantile", "0.99")
        rules.append({"record": f"panel:{len(rules)}", "expr": re.sub(r"\$\w+", "x", plain)})
    # pushhub_store_…: what is measured and nobody sees is not looked after.
    shown = re.findall(r"\bpushhub_([a-z]+)", " ".join(query for _, query in dashboard_queries(board)))
    areas = {name.split("_")[1] for name in metrics if name.startswith("pushhub_")}
    problems += [f"no panel of pushhub_{area}" for area in sorted(areas.difference(shown))]
    ids = [panel["id"] for panel in board["panels"]]
    if len(ids) != len(set(ids)):
        problems.append("two panels have one id")
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "dashboard.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    return problems + promtool("check", "rules", str(WORK / "dashboard.yaml"))
