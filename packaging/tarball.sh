#!/usr/bin/env bash
# Packs the tree of tree.sh with install.sh into a tarball of one directory.
#
# usage: tarball.sh TREE OUT VERSION
#
# Owns what the tarball holds beside the tree: the installer, the version, full license
# texts, which a .deb leaves to Debian's own files.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tree=$1
out=$2
version=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
name=$(basename "$out" .tar.xz)
root=$work/$name

cp -r "$tree" "$root"
# The directory of completions below /usr/local, which zsh searches everywhere.
mkdir -p "$root/share/zsh"
mv "$root/share/zsh/vendor-completions" "$root/share/zsh/site-functions"
install -m 0755 "$here/install.sh" "$root/install.sh"
install -m 0644 "$here/../LICENSE" "$root/LICENSE"
install -m 0644 /usr/share/common-licenses/GPL-2 "$root/LICENSE.GPL-2"
install -m 0644 /usr/share/common-licenses/LGPL-2.1 "$root/LICENSE.LGPL-2.1"
echo "$version" >"$root/VERSION"
chmod 0644 "$root/VERSION"
# One thread: the number of threads changes the bytes.
tar --directory "$work" --create --format=gnu --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
	--owner=0 --group=0 --numeric-owner "$name" | xz -6 --threads=1 >"$work/tarball"
mv "$work/tarball" "$out"
chmod 0644 "$out"
