#!/usr/bin/env bash
# Puts promtool into a folder, out of Debian's package of Prometheus: installing that would start a Prometheus.
set -euo pipefail
to=$1
mkdir -p "$to"
[ ! -x "$to/promtool" ] || exit 0
if command -v promtool >/dev/null; then
  ln -sf "$(command -v promtool)" "$to/promtool"
  exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if ! apt-cache show prometheus >/dev/null 2>&1; then
  [ "$(id -u)" = 0 ] || { echo "missing: run 'sudo apt-get update', or install promtool" >&2; exit 1; }
  apt-get update -qq
fi
# As root apt gives up its rights for the download, and must be able to write there.
chmod 777 "$folder"
(cd "$folder" && apt-get download -qq prometheus && dpkg-deb -x ./prometheus_*.deb .)
mv "$folder/usr/bin/promtool" "$to/promtool"
