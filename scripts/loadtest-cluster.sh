#!/usr/bin/env bash
# Starts PostgreSQL, Redis and NODES nodes on free ports and temporary folders, puts load on them, stops them by
# their ids. With arguments, that one scenario: `scripts/loadtest-cluster.sh send -U 2000 --touch --rate max`. Prints
# what PostgreSQL and Redis cost beside it.
set -euo pipefail
cd "$(dirname "$0")/.."
nodes=${NODES:-3}
folder=$(mktemp -d)
chmod 755 "$folder"
pids=()
cleanup() {
  for pid in "${pids[@]:-}"; do kill -TERM "$pid" 2>/dev/null || true; done
  [ -z "${postgres:-}" ] || kill -INT "$postgres" 2>/dev/null || true
  [ -z "${redis:-}" ] || kill -TERM "$redis" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
if [ -z "$bin" ]; then
  bin=$(dirname "$(command -v initdb)")
fi
as=()
if [ "$(id -u)" = 0 ]; then
  as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
  install -d -o postgres -g postgres "$folder/postgres"
else
  mkdir "$folder/postgres"
fi
port=$(free_port)
"${as[@]}" "$bin/initdb" -A trust -U postgres -E UTF8 --locale=C.UTF-8 -D "$folder/postgres/data" >/dev/null
# A quarter of a small machine's memory; commits are synced, as in earnest.
cat >>"$folder/postgres/data/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
max_connections = 400
shared_buffers = 1GB
max_wal_size = 4GB
wal_compression = lz4
END
(cd "$folder/postgres" && exec "${as[@]}" "$bin/postgres" -D data >log 2>&1) &
postgres=$!
redis_port=$(free_port)
redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --dir "$folder" >"$folder/redis.log" &
redis=$!
until "$bin/pg_isready" -q -h 127.0.0.1 -p "$port"; do sleep 0.1; done
"$bin/createdb" -h 127.0.0.1 -p "$port" -U postgres hub

export JWT_SECRET=loadtest-loadtest-loadtest-loadtest ADMIN_TOKEN=loadtest-admin
arguments=()
for node in $(seq "$nodes"); do
  # The log goes to a file: a server that waits for the terminal would be measured with it.
  env USER_SERVER_PORT=0 ADMIN_SERVER_PORT=0 LOG_LEVEL="${LOG_LEVEL:-warn}" NODE_ID="node-$node" \
    USER_STORAGE_PATH="$folder/storage-$node" \
    DATABASE_URL="postgres://postgres@127.0.0.1:$port/hub?sslmode=disable" REDIS_URL="redis://127.0.0.1:$redis_port" \
    RATE_LIMIT_USER=off RATE_LIMIT_IP=off RATE_LIMIT_CONNECT=off WS_MAX_CONNECTIONS="${WS_MAX_CONNECTIONS:-18000}" \
    HTTP_MAX_CONNECTIONS=1000 target/release/pushhub serve >"$folder/out-$node" 2>"$folder/log-$node" &
  pid=$!
  pids+=("$pid")
  line=
  for _ in $(seq 200); do
    line=$(grep -m1 'pushhub ready user=' "$folder/out-$node" || true)
    [ -n "$line" ] && break
    kill -0 "$pid" || { cat "$folder/log-$node"; exit 1; }
    sleep 0.1
  done
  arguments+=(--url "http://$(sed -n 's/.* user=\([^ ]*\).*/\1/p' <<<"$line")")
  arguments+=(--admin-url "http://$(sed -n 's/.* admin=\([^ ]*\).*/\1/p' <<<"$line")" --server-pid "$pid")
done

# CPU seconds of a process and of its children, also those that have ended.
cpu() {
  local ticks=0
  for pid in "$1" $(cat "/proc/$1/task/$1/children"); do
    ticks=$((ticks + $(awk '{print $14 + $15}' <(sed 's/.*) //; s/^/0 0 /' "/proc/$pid/stat"))))
  done
  ticks=$((ticks + $(awk '{print $16 + $17}' <(sed 's/.*) //; s/^/0 0 /' "/proc/$1/stat"))))
  awk "BEGIN { print $ticks / $(getconf CLK_TCK) }"
}

run() {
  echo "== $nodes nodes: loadtest $*"
  local before_postgres before_redis
  before_postgres=$(cpu "$postgres") before_redis=$(cpu "$redis")
  target/release/loadtest "$@" "${arguments[@]}" --lag-metric none
  awk "BEGIN { printf \"CPU beside the nodes: PostgreSQL %.1f s, Redis %.1f s\\n\", \
    $(cpu "$postgres") - $before_postgres, $(cpu "$redis") - $before_redis }"
}
# `scale SOCKETS HOLD`: so many sockets on each node, a generator for each, held so long.
scale() {
  local sockets=$1 hold=$2 generators=() began=$SECONDS
  for node in $(seq "$nodes"); do
    local at=$(((node - 1) * 6))
    target/release/loadtest connect -N "$sockets" --connecting 32 --hold "$hold" --user-prefix "node-$node" --quiet \
      --time-limit 30m --grace 60s --out "$folder/report-$node" --lag-metric none "${arguments[@]:at:6}" \
      >"$folder/generator-$node" 2>&1 &
    generators+=($!)
  done
  local failed=0
  while kill -0 "${generators[0]}" 2>/dev/null; do
    sleep 5
    local sum=0 most=0 each
    for pid in "${pids[@]}"; do
      each=$(awk '/VmRSS/ { print $2 }' "/proc/$pid/status")
      sum=$((sum + each))
      [ "$each" -le "$most" ] || most=$each
    done
    echo "$((SECONDS - began)) s: established $(ss -Htn state established '( sport = :0 or sport != :0 )' | wc -l), nodes' RSS $((sum / 1024)) MiB, the largest $((most / 1024))"
  done
  for generator in "${generators[@]}"; do wait "$generator" || failed=1; done
  for node in $(seq "$nodes"); do
    grep -E "connects_per_s|ready|idle|lost  |all bounds|missed" "$folder/generator-$node" | sed "s/^/node $node: /" | head -12
  done
  return "$failed"
}
if [ "${1:-}" = scale ]; then
  scale "$2" "$3"
elif [ $# -gt 0 ]; then
  run "$@"
else
  run connect -N 3000 --touch --hold 5s
  run send -U 2000 --touch --rate 2000 --duration 10s
  run batch -U 2000 --touch -K 100 -C 8 --duration 10s
  run broadcast -U 2000 -M 20
  run storm -U 2000
fi
