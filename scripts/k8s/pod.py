"""Lives through a pod's life without Kubernetes: the product with the pod's own settings, its secrets in files, its
user and its read-only root, its probes, a scrape, SIGTERM."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import monitoring
import servers
from manifests import ROOT, seconds, settings_of, workloads

# What only the other shape measures.
OF_CLUSTER = ("pushhub_bus_", "pushhub_postgres_")
OF_FILES = ("pushhub_store_", "pushhub_ledger_", "pushhub_stats_lost_")

SECRETS = {"jwt_secret": "0123456789abcdef0123456789abcdef\n", "admin_token": "0123456789abcdef\n"}


def problems(rendered: dict[str, list[dict]], metrics: dict[str, set[str]]) -> list[str]:
    """Of every workload of both overlays."""
    single = workloads(rendered["single"])
    found = [text for each in single for text in life(each, rendered["single"], SECRETS, metrics, OF_CLUSTER)]
    with servers.running() as addresses:
        secrets = SECRETS | addresses
        for each in workloads(rendered["cluster"]):
            name = each["metadata"]["name"]
            found += [f"{name}: {text}" for text in life(each, rendered["cluster"], secrets, metrics, OF_FILES)]
    return found


def life(workload, things, secrets, metrics, other_shape) -> list[str]:
    spec = workload["spec"]["template"]["spec"]
    container = spec["containers"][0]
    settings = settings_of(things)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mounts = {f"{mount['mountPath']}/": folder / mount["name"] for mount in container["volumeMounts"]}
        for here in mounts.values():
            here.mkdir()
        for secret, text in secrets.items():
            (folder / "secrets" / secret).write_text(text)
        program = [shutil.copy(ROOT / "target/debug/pushhub", folder)]
        if os.geteuid() == 0:
            program = as_in_the_pod(folder, list(mounts.values()), spec["securityContext"]) + program

        def how(of: dict) -> dict:
            given = {**settings, **{it["name"]: it.get("value", "pod-0") for it in of["env"]}}
            environment = {"PATH": os.environ["PATH"]} | {key: as_here(value, mounts) for key, value in given.items()}
            environment |= {"USER_SERVER_PORT": "0", "ADMIN_SERVER_PORT": "0", "BIND_ADDRESS": "127.0.0.1"}
            return {"env": environment, "cwd": folder, "text": True}

        checked = subprocess.run([*program, "check-config"], capture_output=True, check=False, **how(container))
        # How many descriptors there are is this machine's affair.
        warnings = [line for line in checked.stderr.splitlines() if line and "descriptors" not in line]
        if checked.returncode or warnings:
            return [f"check-config: exit {checked.returncode}", *warnings]
        for before in spec.get("initContainers", []):
            done = subprocess.run([*program, *before["args"]], capture_output=True, check=False, **how(before))
            if done.returncode:
                return [f"{before['name']}: exit {done.returncode}: {done.stderr}"]

        with open(folder / "log", "w+") as log:
            command = [*program, *container["args"]]
            server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, **how(container))
            try:
                ports = listening(server)
                if ports is None:
                    log.seek(0)
                    return [f"the server ended: {log.read()}"]
                grace = spec["terminationGracePeriodSeconds"] - container["lifecycle"]["preStop"]["sleep"]["seconds"]
                role = {it["name"]: it.get("value") for it in container["env"]}.get("PUSHHUB_ROLE", "all")
                return [
                    *probe_problems(container, ports),
                    *secret_problems(ports["admin"], role),
                    *scrape_problems(ports["admin"], metrics, other_shape),
                    *end_problems(server, grace, seconds(settings["DRAIN_TIMEOUT"])),
                ]
            finally:
                if server.poll() is None:
                    server.kill()
                    server.wait()


def as_here(value: str, mounts: dict[str, Path]) -> str:
    """A path of the pod as one of this machine."""
    for mount, folder in mounts.items():
        if value.startswith(mount):
            return f"{folder}/{value.removeprefix(mount)}"
    return value


def as_in_the_pod(folder: Path, mounts: list[Path], security: dict) -> list[str]:
    """What to put before a command so that it has the pod's rights. Only root can take rights away; anybody else runs
    it as they are, and leaves the read-only root to whoever has it."""
    os.chmod(folder, 0o755)
    group = security["fsGroup"]
    for mount in mounts:
        # As the kubelet does it: of root and of the group.
        os.chown(mount, 0, group)
        os.chmod(mount, 0o2775)
    keep_writable = " && ".join(f"mount --bind '{mount}' '{mount}'" for mount in mounts)
    user = f"--reuid={security['runAsUser']} --regid={security['runAsGroup']} --groups={group}"
    rights = f"{user} --bounding-set=-all --no-new-privs"
    script = f'{keep_writable} && mount -o remount,bind,ro / && exec setpriv {rights} "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


def listening(server: subprocess.Popen) -> dict[str, str] | None:
    for line in server.stdout:
        if ready := re.search(r"pushhub ready(?: user=(\S+))? admin=(\S+)", line):
            return {"user": ready[1], "admin": ready[2]}
    server.wait()
    return None


def get(address: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    request = urllib.request.Request(f"http://{address}{path}", headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def probe_problems(container: dict, ports: dict[str, str]) -> list[str]:
    found = []
    named = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        if asked["port"] not in named:
            found.append(f"{probe} asks port {asked['port']}, which the container does not name")
            continue
        status, _ = get(ports[asked["port"]], asked["path"])
        if status != 200:
            found.append(f"{probe}: {asked['path']} answers {status}")
    return found


def secret_problems(address: str, role: str) -> list[str]:
    """The admin API is there where it has to be, and takes the token of the file."""
    token = SECRETS["admin_token"].strip()
    status, _ = get(address, "/api/v3/admin/users", {"Authorization": f"Bearer {token}"})
    expected = 200 if role in ("all", "admin") else 404
    return [] if status == expected else [f"the admin API with the token of the file: {status}, not {expected}"]


def end_problems(server: subprocess.Popen, grace: int, drain: int) -> list[str]:
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    try:
        code = server.wait(timeout=grace)
    except subprocess.TimeoutExpired:
        return ["still there at the end of the grace period"]
    found = [] if code == 0 else [f"exit {code} after SIGTERM"]
    if time.monotonic() - began > drain:
        found.append("the drain took longer than DRAIN_TIMEOUT")
    return found


def scrape_problems(address: str, metrics: dict[str, set[str]], other_shape: tuple[str, ...]) -> list[str]:
    """The metrics that alerts and dashboard may use are really scraped, with those labels and their values."""
    _, text = get(address, "/metrics")
    scraped: dict[str, dict[str, set[str]]] = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", text, re.M):
        series = scraped.setdefault(name, {})
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
            series.setdefault(label, set()).add(value)
    found = []
    for name, labels in metrics.items():
        if name in monitoring.SCRAPE_METRICS or name.startswith(other_shape):
            continue
        if name not in scraped:
            found.append(f"{name} is not scraped")
        elif scraped[name].keys() - {"le"} != labels:
            found.append(f"{name} is scraped with the labels {sorted(scraped[name])}, not {sorted(labels)}")
    for query in monitoring.queries():
        found += monitoring.value_problems(query, scraped, other_shape)
    return found
