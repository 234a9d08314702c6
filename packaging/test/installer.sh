#!/usr/bin/env bash
# The tarball and its install.sh, in a root that holds busybox and nothing else.
#
# usage: installer.sh PACKAGES
#
# Run in a mount and a PID namespace of its own, without network.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../../tests/engines/inside/scenario.sh
. "$here/../../tests/engines/inside/scenario.sh"
trap 'umount --quiet "$work/root/proc" || true; rm -rf --one-file-system "$work"' EXIT
tarball=$(echo "$1"/caisson-*-x86_64.tar.xz)
name=$(basename "$tarball" .tar.xz)
root=$work/root
# What changes the machine that programs see, if anything.
machine=()

# Nothing runs here.
leftovers() { :; }
clear_away() { :; }

make_root() {
	mkdir -p "$root/bin" "$root/tmp" "$root/dev" "$root/proc"
	mount -t proc proc "$root/proc"
	mknod -m 666 "$root/dev/null" c 1 3
	cp "$(command -v busybox)" "$root/bin/busybox"
	chroot "$root" /bin/busybox --install -s /bin
	cp "$tarball" "$root/tmp/tarball"
}

in_root() { "${machine[@]}" chroot "$root" /bin/env -i PATH=/usr/local/bin:/bin "$@"; }
install_in_root() { in_root "/tmp/$name/install.sh" "$@"; }
# What is there, without /tmp: the tarball's own files.
files() { find "$root" -xdev -path "$root/tmp" -prune -o -printf '%p %y %m %s\n' | grep -v "^$root d " | sort; }

installed() {
	local said
	in_root tar -xJf /tmp/tarball -C /tmp
	said=$(install_in_root)
	contains 'is installed in /usr/local' "$said"
	contains 'caisson setup docker' "$said"
	contains "caisson version $(in_root cat "/tmp/$name/VERSION")" "$(in_root caisson --version)"
	in_root caisson spec --bundle /tmp
	[ -x "$root/usr/local/libexec/caisson/caisson-vmm" ]
	[ -s "$root/usr/local/share/man/man8/caisson.8.gz" ]
	[ -s "$root/usr/local/share/zsh/site-functions/_caisson" ]
}

uninstalled() {
	install_in_root --uninstall
	files >"$work/after"
	diff "$work/before" "$work/after"
	contains 'no installation' "$(fails_with 1 install_in_root --uninstall)"
}

# One that has a file which the present version lacks, over which it is installed.
upgraded() {
	cp -r "$root/tmp/$name" "$root/tmp/former"
	echo old >"$root/tmp/former/share/caisson/dropped"
	echo 0.0.1 >"$root/tmp/former/VERSION"
	contains 'caisson 0.0.1 is installed' "$(in_root /tmp/former/install.sh)"
	install_in_root
	[ ! -e "$root/usr/local/share/caisson/dropped" ]
	install_in_root
	uninstalled
}

# Files that were there before, or come later, stay.
beside_others() {
	mkdir -p "$root/usr/local/bin"
	echo mine >"$root/usr/local/bin/mine"
	install_in_root
	echo mine >"$root/usr/local/share/caisson/mine"
	install_in_root --uninstall
	equal mine "$(cat "$root/usr/local/bin/mine")"
	equal mine "$(cat "$root/usr/local/share/caisson/mine")"
	echo mine >"$root/usr/local/bin/caisson"
	contains 'is not of an installation' "$(fails_with 1 install_in_root)"
	equal mine "$(cat "$root/usr/local/bin/caisson")"
	rm -r "${root:?}/usr"
}

elsewhere() {
	mkdir "$root/tmp/image"
	install_in_root --prefix /opt/caisson/ --destdir=/tmp/image
	[ -x "$root/tmp/image/opt/caisson/bin/caisson" ]
	install_in_root --prefix=/opt/caisson --destdir /tmp/image --uninstall
	equal '' "$(ls -A "$root/tmp/image")"
}

# fails_in_a_line TEXT [WORDS...]: with these words it fails, in one line with the text.
fails_in_a_line() {
	local text=$1 said
	shift
	said=$(fails_with 1 install_in_root "$@")
	equal 1 "$(wc -l <<<"$said")"
	contains "$text" "$said"
}

bad_input() {
	fails_in_a_line 'unknown argument --prefx' --prefx /usr
	fails_in_a_line 'needs a directory' --prefix
	fails_in_a_line 'absolute path' --prefix usr
	fails_in_a_line 'plain absolute path' --prefix /usr/../etc
	fails_in_a_line 'plain absolute path' --prefix /
	fails_in_a_line 'letters, digits' --prefix '/opt/a b'
	fails_in_a_line 'not a directory' --destdir /tmp/none
	fails_in_a_line 'File exists' --prefix /bin/busybox/x
	mv "$root/tmp/$name/bin/caisson" "$root/tmp/caisson"
	fails_in_a_line 'unpack the tarball again'
	mv "$root/tmp/caisson" "$root/tmp/$name/bin/caisson"
	machine=(setarch i686)
	fails_in_a_line 'this is Linux on i686'
}

make_root
files >"$work/before"
scenario 'the tarball is installed with busybox alone' installed
scenario 'an uninstallation leaves nothing' uninstalled
scenario 'an upgrade drops what is no longer part of it' upgraded
scenario 'files of others are neither replaced nor removed' beside_others
scenario 'a prefix and a destination directory' elsewhere
scenario 'bad input is one clear line' bad_input
verdict
