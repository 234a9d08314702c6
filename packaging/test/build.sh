#!/usr/bin/env bash
# Whether packages are the same bytes when they are built again.
#
# usage: build.sh DIST PACKAGES
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../../tests/engines/inside/scenario.sh
. "$here/../../tests/engines/inside/scenario.sh"
trap 'rm -rf "$work"' EXIT
dist=$1
packages=$2

# Nothing runs here.
leftovers() { :; }
clear_away() { :; }

# The caller's time zone, language and umask are not the first one's.
built_again() {
	(umask 077 && TZ=Asia/Tokyo LANG=C.UTF-8 "$here/../build.sh" "$dist" "$work/again")
	(cd "$packages" && sha256sum -- *.deb *.tar.xz) >"$work/first"
	(cd "$work/again" && sha256sum --check --strict "$work/first")
	equal "$(ls "$packages")" "$(ls "$work/again")"
}

scenario 'the same input gives the same bytes' built_again
verdict
