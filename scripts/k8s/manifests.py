"""What the overlays render to, and whether it may be applied."""

import json
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ("single", "cluster")
EXAMPLES = ROOT / "k8s/examples"
WORK = ROOT / "target/k8s/rendered"

# From the first that knows preStop's sleep without a feature gate to the newest that the package knows.
VERSIONS = ("1.30", "1.32", "1.34", "1.37")

# Kinds of the Prometheus operator, which Kubernetes's schemas do not have: every field that we use, and no other.
OPERATOR_FIELDS = {
    "ServiceMonitor": {
        "spec": {"jobLabel", "podTargetLabels", "selector", "endpoints"},
        "spec.selector": {"matchLabels"},
        "spec.endpoints[]": {"port", "path", "interval", "scrapeTimeout"},
    },
    "PrometheusRule": {
        "spec": {"groups"},
        "spec.groups[]": {"name", "rules"},
        "spec.groups[].rules[]": {"alert", "expr", "for", "labels", "annotations"},
    },
}

# How the generated table of settings says that a value is a secret: a text, or an address with a password in it.
SECRET_SETTINGS = ("a text", "postgres://", "redis://")

# Connections of a node to PostgreSQL beside DATABASE_CONNECTIONS; the README's row of that setting says what for.
CONNECTIONS_BESIDE = 7
# And those that nobody may take from an operator with psql: PostgreSQL's reserve, a backup, a look.
CONNECTIONS_RESERVED = 10

# Seconds between the end of the drain and the kill, for the store to be closed.
CLOSING_SECONDS = 10


def render() -> dict[str, list[dict]]:
    """The objects of each overlay, and of the examples that are objects."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    rendered = {}
    for overlay in OVERLAYS:
        text = run("kubectl", "kustomize", str(ROOT / "k8s/overlays" / overlay))
        (WORK / f"{overlay}.yaml").write_text(text)
        rendered[overlay] = list(yaml.safe_load_all(text))
    ingress = EXAMPLES / "ingress-nginx.yaml"
    shutil.copy(ingress, WORK)
    rendered["ingress"] = list(yaml.safe_load_all(ingress.read_text()))
    return rendered


def run(*command: str, accept: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in accept:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def name_of(thing: dict) -> str:
    return f"{thing['kind']} {thing['metadata']['name']}"


def schema_problems(rendered: dict[str, list[dict]]) -> list[str]:
    """Unknown kinds and fields, missing ones, wrong types."""
    problems = []
    for where, things in rendered.items():
        for thing in things:
            if thing["kind"] in OPERATOR_FIELDS:
                problems += [f"{where}: {name_of(thing)}: {text}" for text in operator_problems(thing)]
                continue
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(thing, version, strict=True)
                except Exception as error:  # every kind of error is a finding
                    path = ".".join(str(part) for part in getattr(error, "path", []))
                    text = getattr(error, "message", error)
                    problems.append(f"{where}: {name_of(thing)} ({version}): {path}: {text}")
    return problems


def operator_problems(thing: dict) -> list[str]:
    problems = []
    for path, allowed in OPERATOR_FIELDS[thing["kind"]].items():
        for value in at(thing, path):
            problems += [f"{path}.{field} is not known" for field in value.keys() - allowed]
    return problems


def at(thing: dict, path: str) -> list:
    """Every value at a path such as `spec.groups[].rules[]`."""
    found = [thing]
    for part in path.split("."):
        found = [value[part.removesuffix("[]")] for value in found if part.removesuffix("[]") in value]
        if part.endswith("[]"):
            found = [item for items in found for item in items]
    return found


def workloads(things: list[dict]) -> list[dict]:
    return [thing for thing in things if thing["kind"] in ("Deployment", "StatefulSet")]


def settings_of(things: list[dict]) -> dict[str, str]:
    """The ConfigMap that all pods read."""
    maps = [t for t in things if t["kind"] == "ConfigMap" and t["metadata"]["name"].startswith("pushhub-settings-")]
    return maps[0]["data"]


def known_settings() -> dict[str, bool]:
    """Each setting of the README's generated table, and whether it is a secret that may be a file."""
    text = (ROOT / "README.md").read_text()
    table = text[text.index("<!-- settings -->") :]
    table = table[: table.index("<!-- end -->")]
    rows = re.findall(r"^\| `([A-Z_]+)` \|[^|]*\|[^|]*\| (.*?) \|", table, re.M)
    return {name: allowed.startswith(SECRET_SETTINGS) for name, allowed in rows}


def default_of(setting: str) -> str:
    """As the README's generated table has it."""
    return re.search(rf"^\| `{setting}` \| `([^`]*)` \|", (ROOT / "README.md").read_text(), re.M)[1]


def seconds(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()
    return int(number) * (60 if unit == "m" else 1)


def house_problems(rendered: dict[str, list[dict]]) -> list[str]:
    """What no schema knows: names that must fit each other, and times that must be longer than others."""
    problems = []
    known = known_settings()
    for overlay in OVERLAYS:
        things = rendered[overlay]
        settings = settings_of(things)
        say = partial(add, problems, overlay)
        for workload in workloads(things):
            check_pod(name_of(workload), workload["spec"]["template"], settings, known, say)
        check_selectors(things, say)
        check_scaling(things, settings, say)
    check_connections(rendered["cluster"], problems.append)
    check_ingress(rendered["ingress"], rendered["single"], rendered["cluster"], problems.append)
    return problems


def add(problems: list[str], overlay: str, text: str) -> None:
    problems.append(f"{overlay}: {text}")


def check_pod(name, template, settings, known, say):
    spec = template["spec"]
    main = next(container for container in spec["containers"] if container["name"] == "pushhub")
    pre_stop = main["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = seconds(settings["DRAIN_TIMEOUT"])
    if spec["terminationGracePeriodSeconds"] < pre_stop + drain + CLOSING_SECONDS:
        say(f"{name}: terminationGracePeriodSeconds is below preStop, DRAIN_TIMEOUT and {CLOSING_SECONDS} s together")
    for container in spec["containers"] + spec.get("initContainers", []):
        mounts = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        names = {variable["name"]: variable.get("value") for variable in container.get("env", [])}
        for variable, value in {**settings, **names}.items():
            setting = variable.removesuffix("_FILE")
            if variable.endswith("_FILE"):
                # REDIS_CA_FILE is a setting by itself, whose value is a path.
                if variable not in known and not known.get(setting):
                    say(f"{name}: {variable} is no secret setting")
                if not any(value.startswith(f"{mount}/") for mount in mounts):
                    say(f"{name}: {variable} names {value}, where nothing is mounted")
            elif setting not in known:
                say(f"{name}: {variable} is no setting")
            elif known.get(setting):
                say(f"{name}: {variable} is a secret in the open; use {variable}_FILE")
        security = container.get("securityContext", {})
        if not security.get("readOnlyRootFilesystem") or security.get("capabilities", {}).get("drop") != ["ALL"]:
            say(f"{name}: container {container['name']} may write to its root or has capabilities")
    on_files = not any(variable["name"] == "DATABASE_URL_FILE" for variable in main["env"])
    mounts = main["volumeMounts"]
    if on_files and not any(settings["USER_STORAGE_PATH"].startswith(m["mountPath"] + "/") for m in mounts):
        say(f"{name}: USER_STORAGE_PATH is on the read-only root")


def check_selectors(things, say):
    """Whoever selects pods selects some."""
    pods = [workload["spec"]["template"]["metadata"]["labels"] for workload in workloads(things)]
    for thing in things:
        spec = thing.get("spec", {})
        if thing["kind"] == "Service":
            wanted = spec["selector"]
        elif thing["kind"] == "PodDisruptionBudget":
            wanted = spec["selector"]["matchLabels"]
        elif thing["kind"] == "NetworkPolicy":
            wanted = spec["podSelector"]["matchLabels"]
        else:
            continue
        if not any(wanted.items() <= labels.items() for labels in pods):
            say(f"{name_of(thing)} selects no pod")
    monitors = [thing for thing in things if thing["kind"] == "ServiceMonitor"]
    services = [thing["metadata"].get("labels", {}) for thing in things if thing["kind"] == "Service"]
    for monitor in monitors:
        if not any(monitor["spec"]["selector"]["matchLabels"].items() <= labels.items() for labels in services):
            say(f"{name_of(monitor)} selects no service")


def check_scaling(things, settings, say):
    names = {thing["metadata"]["name"]: thing for thing in workloads(things)}
    for thing in things:
        if thing["kind"] != "HorizontalPodAutoscaler":
            continue
        spec = thing["spec"]
        target = names.get(spec["scaleTargetRef"]["name"])
        if target is None or "replicas" in target["spec"]:
            say(f"{name_of(thing)}: its target is not there, or says itself how many it wants")
        down = spec["behavior"]["scaleDown"]
        if down["stabilizationWindowSeconds"] < 600 or [p["value"] for p in down["policies"]] != [1]:
            say(f"{name_of(thing)}: scales down fast; each pod that goes sends its devices to the others")
        for metric in spec["metrics"]:
            if metric["type"] == "Pods":
                average = int(metric["pods"]["target"]["averageValue"])
                if not 0.5 <= average / int(settings["WS_MAX_CONNECTIONS"]) <= 0.8:
                    say(f"{name_of(thing)}: {average} connections are not 50 to 80 % of WS_MAX_CONNECTIONS")


def check_connections(things, say, readme=None):
    """What k8s/README.md asks of PostgreSQL holds all pods that there may be, those of an update among them."""
    most = {
        thing["spec"]["scaleTargetRef"]["name"]: thing["spec"]["maxReplicas"]
        for thing in things
        if thing["kind"] == "HorizontalPodAutoscaler"
    }
    needed = CONNECTIONS_RESERVED
    for workload in workloads(things):
        name, spec = workload["metadata"]["name"], workload["spec"]
        container = spec["template"]["spec"]["containers"][0]
        given = {it["name"]: it.get("value") for it in container["env"]}
        settings = {"DATABASE_CONNECTIONS": default_of("DATABASE_CONNECTIONS")} | settings_of(things) | given
        pods = most.get(name, spec.get("replicas")) + spec["strategy"]["rollingUpdate"]["maxSurge"]
        needed += pods * (int(settings["DATABASE_CONNECTIONS"]) + CONNECTIONS_BESIDE)
    stated = int(re.search(r"`max_connections = (\d+)`", readme or (ROOT / "k8s/README.md").read_text())[1])
    if stated < needed:
        say(f"cluster: k8s/README.md has max_connections = {stated}, all pods may take {needed}")
    elif stated > 1.1 * needed:
        say(f"cluster: k8s/README.md has max_connections = {stated}, all pods take {needed} at most")


def check_ingress(ingresses, single, cluster, say):
    read_timeout = "nginx.ingress.kubernetes.io/proxy-read-timeout"
    ping = seconds(settings_of(single)["WS_PING_INTERVAL"])
    for things in (single, cluster):
        services = {t["metadata"]["name"]: t["spec"]["ports"] for t in things if t["kind"] == "Service"}
        for ingress in ingresses:
            for path in at(ingress, "spec.rules[].http.paths[]"):
                service = path["backend"]["service"]
                if service["port"]["name"] not in [port["name"] for port in services.get(service["name"], [])]:
                    say(f"{name_of(ingress)}: no service {service['name']} with that port")
                if path["path"] in ("/ws", "/api/v3/stream"):
                    if int(ingress["metadata"]["annotations"][read_timeout]) < 3 * ping:
                        say(f"{name_of(ingress)}: {path['path']} is cut before three WS_PING_INTERVAL")


def checkov(*arguments: str) -> list[tuple[str, str]]:
    """What checkov finds: ids and what they are found at."""
    command = ("checkov", *arguments, "--compact", "--quiet", "--skip-download", "--soft-fail", "-o", "json")
    reports = json.loads(run(*command))
    found = []
    for report in reports if isinstance(reports, list) else [reports]:
        if report["summary"]["parsing_errors"] or not report["summary"]["passed"]:
            raise SystemExit(f"checkov could not read {arguments}: {report['summary']}")
        found += [(c["check_id"], f"{c['resource']}: {c['check_name']}") for c in report["results"]["failed_checks"]]
    return found


def checkov_problems(rendered) -> list[str]:
    skips = yaml.safe_load((ROOT / "scripts/k8s/skips.yaml").read_text())
    found = checkov("-d", str(WORK), "--framework", "kubernetes")
    found += checkov("-f", str(ROOT / "Dockerfile"), "--framework", "dockerfile")
    problems = [f"{check} {what}" for check, what in found if check not in skips]
    seen = {check for check, _ in found}
    problems += [f"{check} is skipped but finds nothing" for check in skips if check not in seen]
    problems += [f"{check} is skipped without a reason" for check, skip in skips.items() if not skip.get("reason")]
    return problems


def hadolint_problems(path: Path = ROOT / "Dockerfile") -> list[str]:
    return run("hadolint", "--no-color", str(path), accept=(0, 1)).splitlines()


def image_problems(text: str | None = None, ignored: str | None = None) -> list[str]:
    """Whether the build's context has what the Dockerfile copies, and the image says what the manifests rely on."""
    text = text or (ROOT / "Dockerfile").read_text()
    ignored = ignored or (ROOT / ".dockerignore").read_text()
    allowed = {line[1:] for line in ignored.splitlines() if line.startswith("!")}
    copied = set()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M):
        copied |= set(sources.split())
    problems = [f"COPY {name}: not in the context" for name in copied - allowed]
    problems += [f".dockerignore lets in {name}, which nothing copies" for name in allowed - copied]
    problems += [f"COPY {name}: there is none" for name in copied if not (ROOT / name).exists()]
    members = set(
        re.search(r"^members = (\[.*\])$", (ROOT / "Cargo.toml").read_text(), re.M)[1]
        .strip("[]")
        .replace('"', "")
        .split(", ")
    )
    problems += [f"{name} is a member of the workspace and not copied" for name in members - copied]
    pod = yaml.safe_load((ROOT / "k8s/components/pod/pod.yaml").read_text())["spec"]["template"]["spec"]
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    if f"\nUSER {user}\n" not in text:
        problems.append(f"the pods run as {user}, the image does not")
    ports = " ".join(str(port["containerPort"]) for port in pod["containers"][0]["ports"])
    if f"\nEXPOSE {ports}\n" not in text:
        problems.append(f"the pods have the ports {ports}, the image does not")
    return problems
