#!/usr/bin/env bash
# Starts PostgreSQL, Redis and NODES nodes on free ports and temporary folders, puts load on them, stops them by
# their ids. With arguments, that one scenario: `scripts/loadtest-cluster.sh send -U 2000 --touch --rate max`. Prints
# what PostgreSQL and Redis cost beside it. `NODES=10 scripts/loadtest-cluster.sh scale 15000 3m`: sockets of each node.
set -euo pipefail
cd "$(dirname "$0")/.."
nodes=${NODES:-3}
folder=$(mktemp -d)
chmod 755 "$folder"
pids=() generators=()
cleanup() {
  for pid in "${generators[@]}" "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  [ -z "${postgres:-}" ] || kill -INT "$postgres" 2>/dev/null || true
  [ -z "${redis:-}" ] || kill -TERM "$redis" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1)
if [ ! -x "$bin/initdb" ]; then
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
    line=$(grep -sm1 'pushhub ready user=' "$folder/out-$node" || true)
    [ -n "$line" ] && break
    kill -0 "$pid" || { cat "$folder/log-$node"; exit 1; }
    sleep 0.1
  done
  arguments+=(--url "http://$(sed -n 's/.* user=\([^ ]*\).*/\1/p' <<<"$line")")
  arguments+=(--admin-url "http://$(sed -n 's/.* admin=\([^ ]*\).*/\1/p' <<<"$line")" --server-pid "$pid")
done

# CPU of a process and of its children, also those that have ended, in ticks: into `ticks`. Forks nothing, since it is
# asked while others are measured.
tick=$(getconf CLK_TCK)
cpu() {
  local pid numbers fields children=
  ticks=0
  read -r children <"/proc/$1/task/$1/children" || true
  for pid in "$1" $children; do
    # The name in brackets may hold spaces. A child may have ended.
    read -r numbers <"/proc/$pid/stat" || continue
    read -ra fields <<<"${numbers##*) }"
    ticks=$((ticks + fields[11] + fields[12]))
    [ "$pid" != "$1" ] || ticks=$((ticks + fields[13] + fields[14]))
  done 2>/dev/null
}
# `since BEFORE [DIVISOR [DIGITS]]`: the ticks from then until now in seconds, or as many by something.
since() { awk -v t=$((ticks - $1)) -v by="${2:-1}" -v f="%.${3:-1}f" -v tick="$tick" 'BEGIN { printf f, t / tick / by }'; }

run() {
  echo "== $nodes nodes: loadtest $*"
  local before_postgres before_redis beside
  cpu "$postgres" && before_postgres=$ticks
  cpu "$redis" && before_redis=$ticks
  target/release/loadtest "$@" "${arguments[@]}" --lag-metric none
  cpu "$postgres" && beside="PostgreSQL $(since "$before_postgres") s"
  cpu "$redis" && beside+=", Redis $(since "$before_redis") s"
  echo "CPU beside the nodes: $beside"
}

# Resident memory of the nodes in KiB: the sum, and the largest.
resident() {
  local pid name value rest
  sum=0 most=0
  for pid in "${pids[@]}"; do
    while read -r name value rest; do
      [ "$name" = VmRSS: ] || continue
      sum=$((sum + value))
      [ "$value" -le "$most" ] || most=$value
    done <"/proc/$pid/status"
  done
}
# What all have used, into the array of the name: the second, nodes one by one, PostgreSQL, Redis.
usage() {
  local -n into=$1
  local pid
  into=("$SECONDS")
  for pid in "${pids[@]}" "$postgres" "$redis"; do
    cpu "$pid"
    into+=("$ticks")
  done
}
# `between WHAT FROM TO [SOCKETS]`: CPU between two usages, of all nodes, of the least and the most of them, and of those
# beside; with a number of sockets of a node in µs for each and second.
between() {
  local -n from=$2 to=$3
  paste <(printf '%s\n' "${from[@]}") <(printf '%s\n' "${to[@]}") | awk -v what="$1" -v tick="$tick" -v nodes="$nodes" \
    -v sockets="${4:-0}" '
    NR == 1 { seconds = $2 - $1; next }
    { cpu[NR - 1] = ($2 - $1) / tick }
    END {
      least = most = cpu[1]
      for (n = 1; n <= nodes; n++) { sum += cpu[n]; if (cpu[n] < least) least = cpu[n]; if (cpu[n] > most) most = cpu[n] }
      printf "%s %d s: CPU of the nodes %.1f s (%.1f to %.1f each), PostgreSQL %.1f s, Redis %.1f s\n", \
        what, seconds, sum, least, most, cpu[nodes + 1], cpu[nodes + 2]
      if (sockets) {
        each = 1e6 / seconds / sockets
        printf "%s, for each socket and second: nodes %.2f µs (%.2f to %.2f), PostgreSQL %.2f, Redis %.2f\n", \
          what, sum * each / nodes, least * each, most * each, cpu[nodes + 1] * each / nodes, cpu[nodes + 2] * each / nodes
      }
    }'
}
# `scale SOCKETS HOLD`: so many sockets on each node, a generator for each, held so long. What holding costs is counted while
# all generators hold, so let HOLD be longer than one may be done before another.
scale() {
  local sockets=$1 hold=$2 node at line online holding sum most failed=0
  local -a begin=() held=() end=()
  resident
  echo "fresh: nodes' RSS $((sum / 1024)) MiB"
  usage begin
  for node in $(seq "$nodes"); do
    at=$(((node - 1) * 6))
    target/release/loadtest connect -N "$sockets" --connecting 32 --hold "$hold" --user-prefix "node-$node" \
      --time-limit 30m --grace 60s --lag-metric none "${arguments[@]:at:6}" >"$folder/report-$node" 2>"$folder/progress-$node" &
    generators+=($!)
  done
  while kill -0 "${generators[@]}" 2>/dev/null; do
    sleep 5
    online=0 holding=0
    for node in $(seq "$nodes"); do
      # "holding: 15000 online, …", once a second.
      line=$(tail -n 1 "$folder/progress-$node")
      [[ $line != holding:* ]] || holding=$((holding + 1))
      [[ ! $line =~ :\ ([0-9]+)\ online ]] || online=$((online + BASH_REMATCH[1]))
    done
    resident
    echo "$((SECONDS - begin[0])) s: $online online, $holding of $nodes hold, nodes' RSS $((sum / 1024)) MiB, the largest $((most / 1024))"
    [ "$holding" = "$nodes" ] || continue
    if [ ${#held[@]} = 0 ]; then usage held; else usage end; fi
  done
  for node in "${generators[@]}"; do wait "$node" || failed=1; done
  generators=()
  for node in $(seq "$nodes"); do
    grep -E '^  (rate|connects|ready.p[59]|hold|server.(cpu_us|rss)|lost)[a-z0-9_.]*  |^all bounds|^MISSED|^note: not all' \
      "$folder/report-$node" | sed "s/^ */node $node: /"
  done
  if [ ${#end[@]} = 0 ]; then
    echo "not all held at one time for 5 s: take a longer HOLD than $hold" >&2
    return 1
  fi
  between "connecting" begin held
  between "holding" held end "$sockets"
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
