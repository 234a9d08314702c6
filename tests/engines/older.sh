#!/usr/bin/env bash
# Prints a folder with the container engines of an older Debian suite: programs in
# bin/, and in lib/ the libraries that the test host's own suite lacks. They run
# with the C library of the test host, which is newer.
#
# usage: older.sh SUITE
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=../outer-vm/cache.sh
. "$here/../outer-vm/cache.sh"
# shellcheck source=../outer-vm/apt.sh
. "$here/../outer-vm/apt.sh"
suite=${1:?usage: older.sh SUITE}

# Packages that hold programs, and libraries; a suite lacks some of them.
programs=(docker.io docker-cli containerd runc)
libraries=(libdevmapper1.02.1)

fetch() {
	local into=$1 package
	private_apt "$into/apt" "$suite"
	mkdir -p "$into"/{tree,bin,lib}
	for package in "${programs[@]}" "${libraries[@]}"; do
		in_private_apt "$into/apt" apt-cache show "$package" >/dev/null 2>&1 || continue
		(cd "$into/apt" && in_private_apt "$into/apt" apt-get -qq download "$package")
		dpkg -x "$into/apt/$package"_*.deb "$into/tree"
	done
	find "$into/tree" -path '*bin/*' -type f -perm -u+x -exec mv -t "$into/bin" {} +
	find "$into/tree" -name docker-init -exec mv -t "$into/bin" {} +
	find "$into/tree" -name 'lib*.so*' -exec mv -t "$into/lib" {} +
	rm -rf "$into/tree" "$into/apt"
	test -x "$into/bin/runc" -a -x "$into/bin/containerd"
}

target=$(cache_root)/engines/$suite-$(key_of ../engines/older.sh apt.sh)
build_once "$target" fetch
echo "$target"
