#!/usr/bin/env bash
# Starts a server on free ports and a temporary folder, puts each kind of load on it for a few seconds,
# stops it by its process id. The scenarios and their figures: loadtest/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  [ -z "$server" ] || wait "$server" 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT

export JWT_SECRET=loadtest-loadtest-loadtest-loadtest ADMIN_TOKEN=loadtest-admin
# The log goes to a file: a server that waits for the terminal would be measured with it.
env USER_SERVER_PORT=0 ADMIN_SERVER_PORT=0 USER_STORAGE_PATH="$folder/storage" LOG_LEVEL=warn \
  WS_MAX_CONNECTIONS=20000 target/release/pushhub serve >"$folder/out" 2>"$folder/log" &
server=$!
for _ in $(seq 100); do
  line=$(grep -m1 'pushhub ready user=' "$folder/out" || true)
  [ -n "$line" ] && break
  kill -0 "$server" || { cat "$folder/log"; exit 1; }
  sleep 0.1
done
user=$(sed -n 's/.* user=\([^ ]*\).*/\1/p' <<<"$line")
admin=$(sed -n 's/.* admin=\([^ ]*\).*/\1/p' <<<"$line")

run() {
  echo "== loadtest $*"
  target/release/loadtest "$@" --url "http://$user" --admin-url "http://$admin" --server-pid "$server"
}
run connect -N 2000 --touch --hold 5s
run send -U 2000 --touch --rate 2000 --duration 10s
run batch -U 2000 --touch -B 1000 -C 8 --duration 10s
run broadcast -U 2000 -M 20
