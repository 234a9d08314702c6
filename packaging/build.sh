#!/usr/bin/env bash
# Makes caisson's packages, a .deb and a tarball, from programs that are built already.
#
# usage: build.sh DIST OUT
#
# DIST is what `make dist` fills. Owns the version, the date and the order of steps; what
# is in a package is decided by tree.sh, how it is packed by deb.sh and tarball.sh. Same
# input, same bytes: every file has the date of the last commit. Needs no network.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

die() {
	echo "build.sh: $1" >&2
	exit 1
}

# The date of the last commit, unless the caller has set another.
date_of_source() {
	if [ -n "${SOURCE_DATE_EPOCH:-}" ]; then
		echo "$SOURCE_DATE_EPOCH"
	else
		git -C "$here" log -1 --format=%ct 2>/dev/null
	fi
}

version() {
	sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$here/../Cargo.toml"
}

[ $# = 2 ] || die 'usage: build.sh DIST OUT'
[ -x "$1/bin/caisson" ] || die "no programs in $1: make dist first"
SOURCE_DATE_EPOCH=$(date_of_source) || die 'not a git tree: set SOURCE_DATE_EPOCH'
export SOURCE_DATE_EPOCH
export LC_ALL=C
umask 022
dist=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
version=$(version)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$here/tree.sh" "$dist" "$work/tree" "$version"
"$here/deb.sh" "$work/tree" "$out/caisson_${version}_amd64.deb" "$version" &
deb=$!
"$here/tarball.sh" "$work/tree" "$out/caisson-$version-x86_64.tar.xz" "$version"
wait "$deb"
