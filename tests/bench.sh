#!/usr/bin/env bash
# Benchmarks in the test host: caisson beside runc, crun and, as peers with a
# machine of their own, libkrun and QEMU microvm + virtiofsd.
#
# usage: bench.sh DIST [engines]
#
# With `engines` only what containers cost under Docker and containerd; without, all.
# Prints a table with the budgets and writes target/bench.json; without `engines` also
# docs/figures.json, whose figures a test compares with the README's. Every single
# value goes to target/bench.samples and the rest to target/bench.log. What is measured
# lies in bench/ (see its README.md) and runs in the test host; CPU time is taken
# here, from outside. No figure makes it fail: that is for those who read it.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
dist=$(readlink -f "${1:?usage: bench.sh DIST [engines]}")
only=${2:-}
out=$(readlink -m "$here/../target")
samples=$out/bench.samples
rounds=${BENCH_CPU_ROUNDS:-3}
batch_limit_ms=1800000

in_host() {
	"$outer" exec "$host" --timeout-ms 1800000 --env "BENCH_SMALL_FILES=${BENCH_SMALL_FILES:-}" -- "$@"
}

progress() {
	printf 'bench: %s\n' "$*" >&2
}

# Only sample lines count; the rest is for whoever looks into the log.
collect() {
	tee -a "$out/bench.log" | sed -un 's/^sample\t//p' >>"$samples"
}

cpu_of() { # cpu_of WORDS...: CPU milliseconds of the outer machine for once.sh WORDS
	local before
	before=$("$outer" cpu "$host")
	in_host /bench/once.sh "$@" >>"$out/bench.log" 2>&1 || return
	echo $(($("$outer" cpu "$host") - before))
}

# Peers take turns, so that the machine's load meets all of them alike; the
# first round warms up. A run that failed is dropped. Starting the script itself
# is a peer of its own, which is taken off in the end.
cpu_rounds() { # cpu_rounds NAME VERB PEERS...
	local name=$1 round peer cost action
	local -A actions=([nothing]=nothing)
	for peer in "${@:3}"; do actions[$peer]="$2 $peer"; done
	for ((round = 0; round <= rounds; round++)); do
		for peer in nothing "${@:3}"; do
			read -ra action <<<"${actions[$peer]}"
			cost=$(cpu_of "${action[@]}") || continue
			[ "$round" -eq 0 ] || printf '%s\tCPU ms\t%s\t%s\n' "$name" "$peer" "$cost" >>"$samples"
		done
	done
}

processor_time() {
	local peer machines=(qemu)
	[ ! -x "$stage/peer/krun" ] || machines+=(krun)
	in_host /bench/once.sh make
	cpu_rounds 'run true cpu' run caisson runc crun "${machines[@]}"
	for peer in caisson runc crun; do in_host /bench/once.sh idle "$peer" || in_host /bench/once.sh idle "$peer"; done
	cpu_rounds 'exec true cpu' exec caisson runc crun
	for peer in caisson runc crun; do in_host /bench/once.sh end "$peer" >>"$out/bench.log" 2>&1; done
}

under_engines() {
	progress 'CPU time under engines'
	if ! in_host /bench/once.sh engines >>"$out/bench.log" 2>&1; then
		progress "the engines did not start; why: $out/bench.log"
		return 0
	fi
	part engine-memory
	cpu_rounds 'ctr run true cpu' ctr caisson runc
	cpu_rounds 'docker run true cpu' docker caisson runc
	cpu_rounds 'docker run true, by path, cpu' docker-path caisson runc
	cpu_rounds 'docker run true, bridge, cpu' docker-bridge caisson runc
}

# What it printed until its limit counts, the rest is missing.
virtual_time() {
	"$outer" batch --state "$state" --icount --timeout-ms "$batch_limit_ms" \
		--input "$stage" --output "$out/bench-batch" || progress 'the counting machine did not finish'
	collect <"$out/bench-batch/log"
}

sizes() {
	local file
	for file in bin/caisson libexec/caisson/{caisson-vmm,caisson-fs,caisson-vsock,caisson-jail} share/caisson/{initramfs.cpio,vmlinux}; do
		printf 'size of %s\tMiB\tcaisson\t%s\n' "$(basename "$file")" \
			"$(stat -c %s "$dist/$file" | awk '{ printf "%.2f", $1 / 1048576 }')" >>"$samples"
	done
}

# Everything that the measuring machines get, in one folder.
fill_stage() {
	local peer
	cp -r "$here"/bench/. "$here/engines/inside/image.sh" "$stage/"
	cp -r "$dist" "$stage/dist"
	rm -rf "$stage"/dist/share/caisson/*-stock* "$stage/libkrun"
	[ "$only" != engines ] || return 0
	if peer=$("$here/bench/libkrun/build.sh" 2>>"$out/bench.log"); then
		cp -r "$peer" "$stage/peer"
	else
		progress "WITHOUT LIBKRUN, which could not be built; why: $out/bench.log"
	fi
}

# A part that fails costs its own rows.
part() {
	progress "$1"
	in_host "/bench/$1.sh" 2>>"$out/bench.log" | collect || progress "$1 did not finish; why: $out/bench.log"
}

mkdir -p "$out"
: >"$samples"
: >"$out/bench.log"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
state=$("$here/outer-vm/warm.sh")
outer=$state/bin/outer-vm
fill_stage
host=$("$outer" start --state "$state" --owner $$)
trap '"$outer" stop "$host"; rm -rf "$stage"' EXIT
"$outer" put "$host" "$stage" /bench

everything() {
	# Beside the rest on the second processor: neither kind of figure is wall time.
	rm -rf "$out/bench-batch"
	virtual_time &
	local virtual=$!
	progress 'CPU time'
	processor_time || progress "CPU time did not finish; why: $out/bench.log"
	for name in idle memory files; do part "$name"; done
	under_engines
	progress 'waiting for the machine that counts instructions'
	wait "$virtual"
	sizes
}

if [ "$only" = engines ]; then under_engines; else everything; fi
"$outer" check "$host" || progress "the test host's kernel complained; the figures are worthless"

jq --raw-input --slurp --arg only "$only" --slurpfile budgets "$here/bench/budgets.json" --from-file "$here/bench/rows.jq" "$samples" >"$out/bench.json"
jq --raw-output --from-file "$here/bench/table.jq" "$out/bench.json"
[ -n "$only" ] || jq . "$out/bench.json" >"$here/../docs/figures.json"
[ -n "$only" ] || [ -x "$stage/peer/krun" ] || printf '\n**libkrun is missing: it could not be built; why: %s**\n' "$out/bench.log"
