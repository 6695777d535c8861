#!/usr/bin/env bash
# Checks k8s/ and the Dockerfile: rendered by kubectl, held against Kubernetes's schemas, checkov, hadolint and promtool,
# and against the product itself. Tools come into target; no cluster and no Docker is needed.
set -euo pipefail
cd "$(dirname "$0")/.."
here=scripts/k8s tools=target/k8s
mkdir -p "$tools"

if ! cat "$here/requirements.txt" "$here/binaries.txt" | cmp -s - "$tools/installed.txt"; then
  rm -rf "$tools/python" "$tools/installed.txt"
  python3 -m venv "$tools/python"
  "$tools/python/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  "$tools/python/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$here/binaries.txt"
  cat "$here/requirements.txt" "$here/binaries.txt" >"$tools/installed.txt"
fi

# By scripts/tools.sh, too: tests run the rules as well.
scripts/promtool.sh target/tools

cargo build --locked -p hub
PATH="$PWD/$tools/python/bin:$PWD/target/tools:$PATH" PYTHONDONTWRITEBYTECODE=1 "$tools/python/bin/python" "$here/check.py"
