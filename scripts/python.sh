#!/usr/bin/env bash
# A Python of the tests' own, in target/python, with what scripts/schemathesis/requirements.txt names.
# Made once, and again when that file changes.
set -euo pipefail
cd "$(dirname "$0")/.."
needs=scripts/schemathesis/requirements.txt
folder=target/python
if ! cmp -s "$needs" "$folder/installed.txt"; then
  rm -rf "$folder"
  python3 -m venv "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$needs"
  cp "$needs" "$folder/installed.txt"
fi
