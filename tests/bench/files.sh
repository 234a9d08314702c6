#!/usr/bin/env bash
# Files through the shared tree: 64 MiB read twice, an archive of small files
# unpacked. Times are taken by the workload, so a peer's start is not in them.
# Runs inside the test host; owns the input files.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=scene.sh
. "$(dirname "$(readlink -f "$0")")/scene.sh"
# shellcheck source-path=SCRIPTDIR source=count.sh
. "$bench/count.sh"
rounds=3
small=${BENCH_SMALL_FILES:-2000}

make_input() {
	local i stage=$scene/stage
	head -c 67108864 /dev/urandom >"$scene/tree/input/large"
	mkdir -p "$stage"
	for ((i = 0; i < small; i++)); do
		head -c $((300 + i * 37 % 8700)) /dev/zero >"$stage/file$i"
	done
	tar -C "$stage" -cf "$scene/tree/input/small.tar" .
	rm -r "$stage"
	sync
}

read_once() { # read_once PEER: the first time from the disk, for every peer
	local pass seconds
	echo 3 >/proc/sys/vm/drop_caches
	run_once "$1" read && [ -s "$scene/tree/out/read" ] || return
	while read -r pass seconds; do
		sample "read 64 MiB, $pass" s "$1" "$seconds"
	done <"$scene/tree/out/read"
}

# What starting and ending a machine takes is taken off.
untar() { # untar PEER
	local exits notified seconds
	rm -rf "$scene/tree/tmp/small"
	counted_run "$1" true || return
	exits=$(count kvm_exit)
	notified=$(notifications)
	counted_run "$1" untar || return
	exits=$(($(count kvm_exit) - exits))
	notified=$(($(notifications) - notified))
	counting off
	read -r _ seconds <"$scene/tree/out/untar"
	sample "untar of $small files" s "$1" "$seconds"
	case $1 in
	runc | crun) return ;;
	esac
	sample 'untar, exits per file' exits "$1" $((exits / small))
	sample 'untar, requests per file' requests "$1" "$(awk -v n="$notified" -v f="$small" 'BEGIN { printf "%.1f", n / f }')"
	sample 'untar, exits per request' exits "$1" "$(awk -v e="$exits" -v n="$notified" 'BEGIN { printf "%.1f", e / n }')"
}

scene_make
make_input
for ((round = 0; round < rounds; round++)); do
	for peer in $(present caisson runc krun qemu); do surely read_once "$peer"; done
done
for peer in $(present caisson runc crun krun qemu); do surely untar "$peer"; done
rm -r "$scene"/tree/input/* "$scene/tree/tmp/small"
