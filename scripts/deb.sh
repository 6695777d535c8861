#!/usr/bin/env bash
# Makes a Debian package: `scripts/deb.sh [BINARY [FOLDER]]`, by default of target/release/pushhub into target/debian. Needs
# dpkg-deb and binutils and nothing else. XZ_LEVEL (6) is how hard it is packed. Of the same binary and SOURCE_DATE_EPOCH it makes the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-target/release/pushhub}
out=${2:-target/debian}
[ -x "$binary" ] || { echo "missing: $binary (cargo build --release --locked -p hub)" >&2; exit 1; }

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
[ -n "$version" ] || { echo "Cargo.toml names no version" >&2; exit 1; }
# What comes before a release sorts before it.
version=${version//-/\~}
architecture=$(dpkg --print-architecture)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Readable by whoever installs it, whatever the umask here is.
umask 022
root=$work/root
install -d "$root/DEBIAN" "$root/usr/bin" "$root/usr/share/doc/pushhub"
# Line tables are three quarters of the binary; function names stay, for the log of a panic.
strip --strip-debug -o "$root/usr/bin/pushhub" "$binary"
chmod 0755 "$root/usr/bin/pushhub"
program=$root/usr/bin/pushhub

install -D -m 0644 packaging/pushhub.service "$root/lib/systemd/system/pushhub.service"
# May hold secrets once somebody has written them: open to nobody else from the first moment on.
install -d -m 0755 "$root/etc/pushhub"
install -m 0640 packaging/pushhub.env "$root/etc/pushhub/pushhub.env"

install -d "$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/vendor-completions" \
  "$root/usr/share/fish/vendor_completions.d"
# Without settings: the place where this is run may have some.
clean() { (cd "$work" && env -i "$program" "$@"); }
clean completions bash >"$root/usr/share/bash-completion/completions/pushhub"
clean completions zsh >"$root/usr/share/zsh/vendor-completions/_pushhub"
clean completions fish >"$root/usr/share/fish/vendor_completions.d/pushhub.fish"

clean man --out "$work/man" >/dev/null
for page in "$work"/man/*; do
  section=$root/usr/share/man/man${page##*.}
  install -d "$section"
  gzip -9n <"$page" >"$section/$(basename "$page").gz"
done

gzip -9n <CHANGELOG.md >"$root/usr/share/doc/pushhub/changelog.gz"
install -m 0644 README.md CLUSTER.md "$root/usr/share/doc/pushhub/"
cat >"$root/usr/share/doc/pushhub/copyright" <<EOF
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: the pushhub authors
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
EOF

# What it is linked with says which packages it needs: the C library from the newest of its symbols on.
needed=$(objdump -p "$program" | awk '$1 == "NEEDED" {print $2}')
glibc=$(objdump -T "$program" | grep -o 'GLIBC_[0-9][0-9.]*' | sort -uV | tail -1)
depends="libc6 (>= ${glibc#GLIBC_})"
for library in $needed; do
  case $library in
    libc.so.6 | libm.so.6 | libpthread.so.0 | libdl.so.2 | librt.so.1 | ld-linux*) ;;
    libgcc_s.so.1) depends+=", libgcc-s1" ;;
    *) echo "no package is known for $library" >&2; exit 1 ;;
  esac
done

for script in postinst prerm postrm; do install -m 0755 "packaging/deb/$script" "$root/DEBIAN/$script"; done
install -m 0644 packaging/deb/conffiles "$root/DEBIAN/conffiles"
size=$(du -sk --exclude=DEBIAN "$root" | cut -f1)
sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@SIZE@/$size/; s/@DEPENDS@/$depends/" \
  packaging/deb/control >"$root/DEBIAN/control"
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
chmod 0644 "$root/DEBIAN/control" "$root/DEBIAN/md5sums"

mkdir -p "$out"
package=$out/pushhub_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz "-z${XZ_LEVEL:-6}" --build "$root" "$package" >/dev/null
echo "$package"
