#!/usr/bin/env bash
# Runs the tests of whole containers on one kind of machine.
#
# usage: run.sh tcg|kvm|kvm:PART/PARTS DIST [FILTER or other words for the suite]
#
# tcg: here, and a short selection again with a newer QEMU. kvm: in a restored test
# host (outer-vm). Both: the short selection again with the distribution's kernel.
# CAISSON_SOAK=1 makes every count whole. SHORT=1 leaves a selection for kvm of those
# tests that are alike on all machines. A test host has one processor: with parts, which
# can be run side by side, all of a machine's are of use. Owns no build of DIST: `make
# test-tcg` and `make test-kvm` do that first.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")

usage='usage: run.sh tcg|kvm|kvm:PART/PARTS DIST [FILTER]'
machine=${1:?$usage}
part=1/1
[[ $machine != kvm:?*/?* ]] || part=${machine#*:} machine=kvm
dist=$(readlink -f "${2:?$usage}")
shift 2

need() { # need PATH FIX
	if [ ! -e "$1" ]; then
		echo "tests: $1 is missing: $2" >&2
		exit 2
	fi
}

build_suite() {
	local triple=x86_64-unknown-linux-gnu
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --locked \
		--manifest-path "$here/Cargo.toml" --target "$triple" --target-dir "$target_dir" --bin caisson-suite
	echo "$target_dir/$triple/debug/caisson-suite"
}

# A selection on tcg: variables, then the title.
suite_here() {
	local title=$1
	shift
	echo "tests: $title"
	env CAISSON_DIST="$dist" CAISSON_MACHINE=tcg "$@"
}

run_tcg() {
	need "$(command -v qemu-system-x86_64 || echo qemu-system-x86_64)" 'make deps'
	local newer status=0
	suite_here 'machine tcg' "$suite" "$@" || status=$?
	# The program itself: caisson shows it the libraries of the tree that it lies in.
	newer=$("$here/outer-vm/qemu.sh" --suite sid)/../usr/bin/qemu-system-x86_64
	suite_here 'machine tcg, QEMU of sid' CAISSON_SMOKE=1 CAISSON_QEMU="$newer" "$suite" "$@" || status=$?
	suite_here "machine tcg, the distribution's kernel" CAISSON_SMOKE=1 CAISSON_KERNEL=stock "$suite" "$@" || status=$?
	return $status
}

# A selection in the test host: title, variables, --, words for the suite.
suite_there() {
	local variables=()
	echo "tests: $1"
	shift
	while [ "$1" != -- ]; do
		variables+=(--env "$1")
		shift
	done
	"$outer" exec "$host" --follow-output --timeout-ms 5400000 \
		--env CAISSON_DIST=/opt/caisson --env CAISSON_MACHINE=kvm "${variables[@]}" \
		-- /opt/caisson-suite "${@:2}"
}

run_kvm() {
	local state status=0
	state=$("$here/outer-vm/warm.sh")
	# Not local: the trap runs after this function has returned.
	outer=$state/bin/outer-vm
	host=$("$outer" start --state "$state" --owner $$)
	trap '"$outer" stop "$host"' EXIT
	"$outer" put "$host" "$dist" /opt/caisson
	"$outer" put "$host" "$suite" /opt/caisson-suite
	suite_there "machine kvm, part $part" CAISSON_SOAK="${CAISSON_SOAK:-}" CAISSON_SHORT="${SHORT:-}" CAISSON_PART="$part" -- "$@" || status=$?
	suite_there "machine kvm, part $part, the distribution's kernel" \
		CAISSON_SMOKE=1 CAISSON_KERNEL=stock CAISSON_PART="$part" -- "$@" || status=$?
	"$outer" check "$host"
	return $status
}

need "$dist/bin/caisson" 'make programs'
need "$dist/share/caisson/vmlinux" 'make kernel'
need "$dist/share/caisson/vmlinux-stock" 'make stock-kernel'
need /bin/busybox 'apt-get install busybox-static'
target_dir=${CARGO_TARGET_DIR:-$here/../target}
suite=$(build_suite)
case $machine in
tcg) run_tcg "$@" ;;
kvm) run_kvm "$@" ;;
*)
	echo "$usage" >&2
	exit 2
	;;
esac
