#!/usr/bin/env bash
# Tests the packages that `make package` has made, on this machine.
#
# usage: run.sh DIST PACKAGES
#
# DIST is what they were made of, PACKAGES the directory that holds them. Owns where each
# script runs: in namespaces of its own, without network, and what they mount ends with
# them. A script prints a line for each test; this one ends with 1 if a test failed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# = 2 ] || {
	echo 'usage: run.sh DIST PACKAGES' >&2
	exit 1
}
# shellcheck source=../../tests/outer-vm/cache.sh
. "$here/../../tests/outer-vm/cache.sh"
# shellcheck source=../../tests/outer-vm/apt.sh
. "$here/../../tests/outer-vm/apt.sh"
dist=$(readlink -f "$1")
packages=$(readlink -f "$2")
began=$SECONDS
status=0

# A network that isn't there, and processes that end with the script.
confined() { unshare --mount --propagation private --net --pid --fork "$@" </dev/null; }

# It is most of the time: beside it the others take none.
"$here/build.sh" "$dist" "$packages" </dev/null &
build=$!
debian=$(debian_rootfs)
confined "$here/fresh-root.sh" "$debian" "$here/package.sh" "$packages" || status=1
confined "$here/installer.sh" "$packages" || status=1
wait "$build" || status=1
echo "packages: $((SECONDS - began)) s"
exit $status
