"""Runs every check of k8s/ and the Dockerfile, and then shows that each of them can fail.

Without the second half a check that finds nothing, because it looks at nothing, would go unnoticed.
"""

import sys

import manifests
import monitoring
import planted
import pod


def main() -> int:
    rendered = manifests.render()
    metrics = monitoring.known_metrics()
    checks = {
        "schemas": lambda: manifests.schema_problems(rendered),
        "house rules": lambda: manifests.house_problems(rendered),
        "checkov": lambda: manifests.checkov_problems(rendered),
        "hadolint": manifests.hadolint_problems,
        "image": manifests.image_problems,
        "alerts": lambda: monitoring.alert_problems(metrics),
        "dashboard": lambda: monitoring.dashboard_problems(metrics),
        "a pod's life": lambda: pod.problems(rendered["single"], metrics),
        "planted mistakes are found": lambda: planted.missed(rendered, metrics),
    }
    failed = 0
    for name, check in checks.items():
        problems = check()
        failed += bool(problems)
        print(f"{'FAILED' if problems else 'ok':6}  {name}")
        for problem in problems:
            print(f"        {problem}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
