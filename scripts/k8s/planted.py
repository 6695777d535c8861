"""Mistakes put into copies of the manifests: each check must find its own."""

import copy
import json
import os
import tempfile
from pathlib import Path

import yaml

import manifests
import monitoring
import pod as pod_life

BARE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: planted, namespace: pushhub}
spec:
  selector: {matchLabels: {app: planted}}
  template:
    metadata: {labels: {app: planted}}
    spec: {containers: [{name: planted, image: "planted:latest"}]}
"""
BARE_IMAGE = "FROM debian:latest\nRUN cd /tmp && apt-get install curl\n"


def missed(rendered, metrics) -> list[str]:
    """The planted mistakes that were not found."""
    problems = []

    def expect(what: str, found: list[str], words: str):
        if not any(words in text for text in found):
            problems.append(f"{what}: nobody said '{words}', but {found[:3]}")

    def changed(overlay: str, kind: str, change):
        """The overlays with one object changed."""
        copied = copy.deepcopy(rendered)
        change(next(thing for thing in copied[overlay] if thing["kind"] == kind))
        return copied

    def container(thing):
        return thing["spec"]["template"]["spec"]["containers"][0]

    def pod(thing):
        return thing["spec"]["template"]["spec"]

    schema, house = manifests.schema_problems, manifests.house_problems
    misspelt = changed("single", "StatefulSet", lambda it: pod(it).update(terminationGracePeriodSecond=60))
    expect("a misspelt field", schema(misspelt), "terminationGracePeriodSecond")
    wrong = changed("single", "ServiceMonitor", lambda it: it["spec"]["endpoints"][0].update(intervall="15s"))
    expect("a misspelt field of the operator's", schema(wrong), "intervall")

    short = changed("cluster", "Deployment", lambda it: pod(it).update(terminationGracePeriodSeconds=40))
    expect("a grace period that ends in the drain", house(short), "terminationGracePeriodSeconds")
    typo = changed(
        "single", "StatefulSet", lambda it: container(it)["env"].append({"name": "WS_PING_INTERVALL", "value": "1s"})
    )
    expect("an unknown setting", house(typo), "WS_PING_INTERVALL is no setting")
    open_file = changed(
        "single",
        "StatefulSet",
        lambda it: container(it)["env"].append({"name": "LOG_LEVEL_FILE", "value": "/run/secrets/pushhub/r"}),
    )
    expect("a file of what is no secret", house(open_file), "LOG_LEVEL_FILE is no secret setting")
    naked = changed(
        "single", "StatefulSet", lambda it: container(it)["env"].append({"name": "ADMIN_TOKEN", "value": "x"})
    )
    expect("a secret in the open", house(naked), "secret in the open")
    writable = changed(
        "cluster", "Deployment", lambda it: container(it)["securityContext"].update(readOnlyRootFilesystem=False)
    )
    expect("a writable root", house(writable), "may write to its root")
    lost = changed("single", "StatefulSet", lambda it: container(it).update(volumeMounts=[]))
    expect("no volume", house(lost), "USER_STORAGE_PATH is on the read-only root")
    astray = changed("cluster", "PodDisruptionBudget", lambda it: it["spec"]["selector"].update(matchLabels={"a": "b"}))
    expect("a budget of nobody", house(astray), "selects no pod")
    fast = changed(
        "cluster",
        "HorizontalPodAutoscaler",
        lambda it: it["spec"]["behavior"]["scaleDown"].update(stabilizationWindowSeconds=0),
    )
    expect("a fast scale-down", house(fast), "scales down fast")
    many = changed("cluster", "HorizontalPodAutoscaler", lambda it: it["spec"].update(maxReplicas=60))
    expect("more pods than PostgreSQL has connections", house(many), "all pods may take")
    ca = changed(
        "cluster", "Deployment", lambda it: container(it)["env"].append({"name": "REDIS_CA_FILE", "value": "/etc/ca.pem"})
    )
    expect("a CA that nobody mounts", house(ca), "where nothing is mounted")
    timeout = "nginx.ingress.kubernetes.io/proxy-read-timeout"
    cut = changed("ingress", "Ingress", lambda it: it["metadata"]["annotations"].update({timeout: "60"}))
    expect("an ingress that cuts silent sockets", house(cut), "is cut before")

    if os.geteuid() == 0:
        # Anybody may write there, were it not for the read-only root.
        outside = copy.deepcopy(rendered["single"])
        manifests.settings_of(outside).update(USER_STORAGE_PATH="/var/tmp/planted")
        pod = manifests.workloads(outside)[0]
        lived = pod_life.life(pod, outside, pod_life.SECRETS, metrics, pod_life.OF_CLUSTER)
        expect("storage outside the volume", lived, "Read-only file system")

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "planted.yaml").write_text(BARE)
        Path(folder, "Dockerfile").write_text(BARE_IMAGE)
        found = manifests.checkov("-d", folder, "--framework", "kubernetes", "dockerfile")
        ids = [check for check, _ in found]
        expect("a bare deployment", ids, "CKV_K8S_22")
        expect("an image of root", ids, "CKV_DOCKER_3")
        expect("a careless RUN", manifests.hadolint_problems(Path(folder, "Dockerfile")), "DL3003")
    text = (manifests.ROOT / "Dockerfile").read_text()
    expect("another user", manifests.image_problems(text.replace("USER 65532:65532", "USER 1000:1000")), "run as")
    expect("a crate left out", manifests.image_problems(text.replace("COPY loadtest loadtest\n", "")), "not copied")

    groups = yaml.safe_load((monitoring.FOLDER / "alerts.yaml").read_text())["spec"]["groups"]
    cases = yaml.safe_load((monitoring.FOLDER / "alerts.test.yaml").read_text())

    def alert(change):
        """The alerts with the first of them changed."""
        copied = copy.deepcopy(groups)
        change(copied[0]["rules"][0])
        return monitoring.alert_problems(metrics, copied, cases)

    expect(
        "an alert on nothing",
        alert(lambda it: it.update(expr="pushhub_conections > 1")),
        "pushhub_conections is no metric",
    )
    expect(
        "an alert by a wrong label",
        alert(lambda it: it.update(expr="sum by (reson) (pushhub_disconnects_total) > 1")),
        "reson is no label",
    )
    expect("an alert that never fires", alert(lambda it: it.update(expr='up{job="pushhub"} == 2')), "PushhubDown")
    expect("an alert that always fires", alert(lambda it: it.update(expr='up{job="pushhub"} >= 0')), "PushhubDown")
    expect("an alert without a runbook", alert(lambda it: it["annotations"].pop("runbook")), "no runbook")
    expect(
        "an alert without a test", monitoring.alert_problems(metrics, groups, cases[1:]), "no test in which it fires"
    )

    scraped = {"pushhub_disconnects_total": {"reason": {"restarting"}}}
    renamed = monitoring.value_problems('rate(pushhub_disconnects_total{reason=~"restarting|gone"}[5m])', scraped)
    expect("a reason that nobody gives", renamed, 'reason="gone"')
    twin = 'rate(pushhub_disconnects_total{reason="gone"}[5m]) or rate(pushhub_postgres_errors_total{kind="x"}[5m])'
    beside = monitoring.value_problems(twin, scraped, pod_life.OF_CLUSTER)
    expect("a reason that nobody gives, beside the other shape's", beside, 'reason="gone"')

    board = json.loads((monitoring.FOLDER / "dashboard.json").read_text())

    def panel(expression):
        copied = copy.deepcopy(board)
        next(each for each in copied["panels"] if each.get("targets"))["targets"][0]["expr"] = expression
        return monitoring.dashboard_problems(metrics, copied)

    expect("a panel of nothing", panel("sum (pushhub_nothing)"), "pushhub_nothing is no metric")
    expect("a panel that is no query", panel("sum by (pod (pushhub_connections)"), "parse")
    blind = copy.deepcopy(board)
    blind["panels"] = [it for it in board["panels"] if "pushhub_bus_" not in json.dumps(it)]
    expect("an area without a panel", monitoring.dashboard_problems(metrics, blind), "no panel of pushhub_bus")
    expect("a panel of no variable", panel('pushhub_connections{pod="$pode"}'), "$pode is no variable")
    return problems
