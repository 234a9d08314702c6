#!/usr/bin/env bash
# Packs the tree of tree.sh into a .deb, below /usr.
#
# usage: deb.sh TREE OUT VERSION
#
# Owns the package's control files. What its maintainer scripts do is in debian/.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tree=$1
out=$2
version=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

# In KiB as Debian counts: files rounded up, 1 for everything else.
installed_size() {
	find "$root" -mindepth 1 -printf '%y %s\n' |
		awk '{kib += $1 == "f" ? int(($2 + 1023) / 1024) : 1} END {print kib}'
}

# Control files are written after it: it counts the package's own.
control() {
	local size
	size=$(installed_size)
	mkdir "$root/DEBIAN"
	sed -e "s/@VERSION@/$version/" -e "s/@MAINTAINER@/$("$here/maintainer.sh")/" \
		-e "s/@SIZE@/$size/" "$here/debian/control" >"$root/DEBIAN/control"
	(cd "$root" && find usr -type f | sort | xargs md5sum) >"$root/DEBIAN/md5sums"
	install -m 0755 -t "$root/DEBIAN" "$here/debian/prerm" "$here/debian/postrm"
	chmod 0644 "$root/DEBIAN/control" "$root/DEBIAN/md5sums"
}

mkdir "$root"
cp -r "$tree" "$root/usr"
install -D -m 0644 "$here/debian/lintian-overrides" "$root/usr/share/lintian/overrides/caisson"
control
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
# One thread: the number of threads changes the bytes.
dpkg-deb --root-owner-group --threads-max=1 -Zxz -z6 --build "$root" "$work/package.deb" >/dev/null
mv "$work/package.deb" "$out"
