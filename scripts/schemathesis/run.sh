#!/usr/bin/env bash
# Holds a real server against the documents it serves: the documents against their standards, then
# schemathesis with all checks on both ports, as a user who may everything, as a service and as an
# admin. Starts the server on free ports and a temporary folder, and stops it by its process id.
#
# [SEED=N] run.sh EXAMPLES SECONDS: most generated requests of an operation and phase, most time of each
# of the three runs.
set -euo pipefail
cd "$(dirname "$0")/../.."
examples=$1 seconds=$2
asyncapi_specs=6.11.1

scripts/python.sh
python=$PWD/target/python/bin here=$PWD/scripts/schemathesis
schema=target/asyncapi/node_modules/@asyncapi/specs/schemas/3.0.0.json
if [ ! -f "target/asyncapi/$asyncapi_specs" ]; then
  rm -rf target/asyncapi
  mkdir -p target/asyncapi
  npm install --silent --no-fund --no-audit --prefix target/asyncapi "@asyncapi/specs@$asyncapi_specs"
  touch "target/asyncapi/$asyncapi_specs"
fi
cargo build --locked -p hub

folder=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  [ -z "$server" ] || wait "$server" 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT

export JWT_SECRET=schemathesis-schemathesis-schemathesis ADMIN_TOKEN=schemathesis-admin
export USER_STORAGE_PATH="$folder/storage"
# What is refused for now says nothing of what is answered, and here one caller asks for all.
env USER_SERVER_PORT=0 ADMIN_SERVER_PORT=0 LOG_LEVEL=warn,security=error RATE_LIMIT_USER=off \
  target/debug/pushhub serve >"$folder/out" 2>"$folder/log" &
server=$!
for _ in $(seq 300); do
  line=$(grep -m1 'pushhub ready user=' "$folder/out" || true)
  [ -n "$line" ] && break
  kill -0 "$server" || { cat "$folder/log"; exit 1; }
  sleep 0.1
done
user=http://$(sed -n 's/.* user=\([^ ]*\).*/\1/p' <<<"$line")
admin=http://$(sed -n 's/.* admin=\([^ ]*\).*/\1/p' <<<"$line")

"$python/python" scripts/schemathesis/check_documents.py "$user" "$admin" "$schema"

field() { "$python/python" -c 'import json,sys; print(eval(sys.argv[1], {"it": json.load(sys.stdin)}))' "$1"; }
token=$(target/debug/pushhub token mint --user root --role system_admin --output json | field 'it["token"]')
key=$(curl -sS "$admin/api/v3/admin/services" -H "Authorization: Bearer $ADMIN_TOKEN" \
  -H 'Content-Type: application/json' \
  -d '{"name": "schemathesis", "level": "system", "permissions": ["on_behalf_of"]}' \
  | field 'it["data"]["api_key"]')

failed=0
run() {
  local who=$1 base=$2 authorization=$3
  echo "== schemathesis $who"
  # In the temporary folder: the tools leave what they remember where they are started.
  (cd "$folder" && PYTHONPATH="$here" PYTHONDONTWRITEBYTECODE=1 SCHEMATHESIS_HOOKS=hooks "$python/st" \
    --config-file "$here/schemathesis.toml" run "$base/api/v3/openapi.json" \
    --max-examples "$examples" --max-time "$seconds" --seed "${SEED:-20250115}" \
    -H "Authorization: $authorization") || failed=1
}
run 'as a user' "$user" "Bearer $token"
run 'as a service' "$user" "Service $key"
run 'as an admin' "$admin" "Bearer $ADMIN_TOKEN"

kill -0 "$server" || { echo "the server has ended"; cat "$folder/log"; exit 1; }
if grep -qE 'panicked| a request failed' "$folder/log"; then
  echo "the server's log:"
  grep -E 'panicked| a request failed' "$folder/log" | head -20
  failed=1
fi
exit "$failed"
