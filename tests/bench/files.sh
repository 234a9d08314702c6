#!/usr/bin/env bash
# Files through the shared tree: 64 MiB read twice, an archive of small files
# unpacked. Times are taken by the workload, so a peer's start is not in them.
# Runs inside the test host; owns the input files.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=scene.sh
. "$(dirname "$(readlink -f "$0")")/scene.sh"
small=${BENCH_SMALL_FILES:-200}
trigger=/sys/kernel/tracing/events/kvm/kvm_exit/trigger
hist=/sys/kernel/tracing/events/kvm/kvm_exit/hist

make_input() {
	local i stage=$scene/stage
	head -c 67108864 /dev/urandom >"$scene/tree/input/large"
	mkdir -p "$stage"
	for ((i = 0; i < small; i++)); do
		head -c $((300 + i * 37 % 8700)) /dev/zero >"$stage/file$i"
	done
	tar -C "$stage" -cf "$scene/tree/input/small.tar" .
	rm -r "$stage"
	cat "$scene"/tree/input/* >/dev/null
}

exits_of() { # exits_of PEER BUNDLE
	echo 'hist:keys=exit_reason' >$trigger
	run_once "$@"
	awk '/Hits:/ { print $2 }' $hist
	echo '!hist:keys=exit_reason' >$trigger
}

measure() { # measure PEER
	local name seconds plain all
	run_once "$1" read
	while read -r name seconds; do
		sample "read 64 MiB, $name" s "$1" "$seconds"
	done <"$scene/tree/out/read"
	plain=$(exits_of "$1" true)
	all=$(exits_of "$1" untar)
	read -r _ seconds <"$scene/tree/out/untar"
	sample "untar of $small files" s "$1" "$seconds"
	case $1 in
	caisson | qemu) sample "untar, exits per file" exits "$1" $(((all - plain) / small)) ;;
	esac
	rm -r "$scene/tree/tmp/small"
}

scene_make
make_input
for peer in "${peers[@]}"; do
	measure "$peer"
done
rm "$scene"/tree/input/*
