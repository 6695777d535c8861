#!/usr/bin/env bash
# Installs what the tests need on a bare Debian with Rust: as root by apt-get, else it says the line.
set -euo pipefail

missing=()
need() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] || missing+=("$2"); }
need cc gcc
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
need mkfs.ext4 e2fsprogs
need mount mount
need curl curl
need npm npm
need chromium chromium
need python3 python3
# The package, and what is held against it.
need dpkg-deb dpkg
need objdump binutils
need unshare util-linux
need setpriv util-linux
need groff groff-base
# A server for the store's tests; its programs are in no PATH.
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || missing+=(postgresql)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
need redis-server redis-server
need sqlite3 sqlite3
need age age

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    # RUNLEVEL: packages of servers must not start them; tests start their own.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
  else
    echo "missing: run 'sudo apt-get install ${missing[*]}'" >&2
    exit 1
  fi
fi

# Runs the rules of alerts over what a harmed server says of itself.
"$(dirname "$0")/promtool.sh" "$(dirname "$0")/../target/tools"

if ! command -v cargo >/dev/null; then
  echo "missing: Rust 1.95 or later, see https://rustup.rs" >&2
  exit 1
fi
for tool in fmt clippy; do
  cargo "$tool" --version >/dev/null 2>&1 && continue
  name=${tool/fmt/rustfmt}
  if command -v rustup >/dev/null; then
    rustup component add "$name"
  else
    echo "missing: cargo $tool (Debian: apt-get install $name)" >&2
    exit 1
  fi
done
