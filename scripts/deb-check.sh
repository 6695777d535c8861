#!/usr/bin/env bash
# Makes the Debian package of the binary of the tests and puts it through its life: installed, changed, upgraded, removed,
# installed again, purged. As root that is a whole Debian: this one, with a layer above it that is thrown away. Nothing of
# this machine is changed. Without root the package is unpacked, and looked at.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-target/debug/pushhub}
[ $# -gt 0 ] || cargo build --locked -p hub
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Nobody downloads this one.
export XZ_LEVEL=0
package=$(scripts/deb.sh "$binary" "$work")
fail() { echo "deb-check: $*" >&2; exit 1; }
has() { grep -q -- "$2" <<<"$1" || fail "no $2 in: $1"; }

# The same again is the same.
again=$(scripts/deb.sh "$binary" "$work/again")
cmp "$package" "$again" || fail "two builds of one binary differ"

about=$(dpkg-deb -I "$package")
has "$about" ' Package: pushhub'
has "$about" ' Depends: libc6 (>= 2'
contents=$(dpkg-deb -c "$package")
for line in '-rwxr-xr-x root/root .* ./usr/bin/pushhub$' '-rw-r----- root/root .* ./etc/pushhub/pushhub.env$' \
  './lib/systemd/system/pushhub.service$' './usr/share/man/man1/pushhub-doctor.1.gz$' \
  './usr/share/man/man5/pushhub.toml.5.gz$' './usr/share/bash-completion/completions/pushhub$' \
  './usr/share/doc/pushhub/copyright$'; do
  has "$contents" "$line"
done
! grep -E '^.{8}w' <<<"$contents" | grep -v '^l' || fail "something is writable by all"

dpkg-deb -x "$package" "$work/root"
has "$("$work/root/usr/bin/pushhub" --version)" 'pushhub [0-9]'
(cd "$work/root" && dpkg-deb --ctrl-tarfile "$package" | tar -xO ./md5sums | md5sum --check --quiet) || fail "a sum is wrong"
for script in postinst prerm postrm; do
  dpkg-deb --ctrl-tarfile "$package" | tar -xO "./$script" | sh -n || fail "$script is no shell script"
done
if command -v lintian >/dev/null; then
  # No bug is closed by it, and it is linked by Rust's rules.
  lintian --fail-on error --suppress-tags no-copyright-file,unstripped-binary-or-object "$package"
else
  echo "lintian is not installed: the package was not linted"
fi

if [ "$(id -u)" != 0 ] || ! unshare -m true 2>/dev/null; then
  echo "deb-check: unpacked and looked at; not installed, which needs root"
  exit 0
fi
cat >"$work/life.sh" <<'EOF'
set -eu
package=$1
fail() { echo "deb-check: $*" >&2; exit 1; }
mode() { stat -c '%a %U:%G' "$1"; }
export DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Whatever this machine lacks of its dependencies is not what is looked at.
run() { dpkg --force-depends "$@" >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; fail "dpkg $*"; }; }

run -i "$package"
id pushhub >/dev/null || fail "no user"
[ "$(mode /var/lib/pushhub)" = "700 pushhub:pushhub" ] || fail "folder: $(mode /var/lib/pushhub)"
[ "$(mode /etc/pushhub/pushhub.env)" = "640 root:pushhub" ] || fail "settings: $(mode /etc/pushhub/pushhub.env)"
[ -L /etc/systemd/system/multi-user.target.wants/pushhub.service ] || fail "not enabled"
dpkg --verify pushhub >/tmp/verify 2>&1 || { cat /tmp/verify; fail "files differ"; }
# As the service would: its user, its settings, its folder. A start makes the secrets and serves.
# Takes the place of the shell, so that what is told to end is the server.
as_service() {
  exec setpriv --reuid=pushhub --regid=pushhub --clear-groups --no-new-privs env -i \
    USER_STORAGE_PATH=/var/lib/pushhub/user_storage USER_SERVER_PORT=0 ADMIN_SERVER_PORT=0 "$@"
}
cd /var/lib/pushhub
(as_service /usr/bin/pushhub doctor --json) >/tmp/doctor.json 2>/tmp/doctor.log || { cat /tmp/doctor.json; fail "doctor"; }
as_service /usr/bin/pushhub serve >/tmp/serve.log 2>&1 &
server=$!
tries=0
until grep -q '^pushhub ready' /tmp/serve.log; do
  tries=$((tries + 1))
  [ "$tries" -lt 300 ] && kill -0 "$server" || { cat /tmp/serve.log; fail "it does not serve"; }
  sleep 0.1
done
kill "$server" && wait "$server" || fail "it did not end in order"
[ -s /var/lib/pushhub/user_storage/.hub/secrets/jwt_secret ] || fail "no secret was made"

# An upgrade keeps what was changed, and an administrator's choice.
echo LOG_LEVEL=warn >>/etc/pushhub/pushhub.env
systemctl disable pushhub.service >/dev/null 2>&1 || deb-systemd-helper disable pushhub.service >/dev/null
run -i "$package"
grep -q '^LOG_LEVEL=warn' /etc/pushhub/pushhub.env || fail "an upgrade has put settings back"
[ "$(mode /etc/pushhub/pushhub.env)" = "640 root:pushhub" ] || fail "an upgrade has opened the settings"
[ ! -e /etc/systemd/system/multi-user.target.wants/pushhub.service ] || fail "an upgrade has enabled it"

run --remove pushhub
[ ! -e /usr/bin/pushhub ] || fail "the binary is still there"
[ -s /var/lib/pushhub/user_storage/.hub/secrets/jwt_secret ] || fail "a removal took the data"
[ -s /etc/pushhub/pushhub.env ] || fail "a removal took the settings"
run -i "$package"
[ ! -L /etc/systemd/system/pushhub.service ] || fail "it is still masked"

touch /etc/pushhub/own.pem
run --purge pushhub
[ ! -e /var/lib/pushhub ] || fail "a purge left the data"
[ ! -e /etc/pushhub/pushhub.env ] || fail "a purge left the settings"
[ -e /etc/pushhub/own.pem ] || fail "a purge took what was somebody's own"
id pushhub >/dev/null || fail "the user went, and others may get its number"
echo "deb-check: installed, served, upgraded, removed, purged"
EOF
cat >"$work/layer.sh" <<'EOF'
set -eu
mkdir "$1/layer"
mount -t tmpfs -o size=2g tmpfs "$1/layer"
mkdir "$1/layer/upper" "$1/layer/work" "$1/layer/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/layer/upper,workdir=$1/layer/work" "$1/layer/root" 2>/dev/null || exit 99
mount -t proc proc "$1/layer/root/proc"
mount --rbind /dev "$1/layer/root/dev"
cp "$2" "$1/life.sh" "$1/layer/root/tmp/"
exec chroot "$1/layer/root" sh /tmp/life.sh "/tmp/$(basename "$2")"
EOF
set +e
# The mounts go with the namespace.
unshare -m --propagation private bash "$work/layer.sh" "$work" "$package"
code=$?
set -e
if [ "$code" = 99 ]; then
  echo "deb-check: unpacked and looked at; not installed, because this machine has no overlay file system"
elif [ "$code" != 0 ]; then
  exit "$code"
fi
