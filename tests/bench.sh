#!/usr/bin/env bash
# Benchmarks in the test host: caisson beside runc, crun and, as the peer with a
# machine of its own, QEMU microvm + virtiofsd with caisson's kernel.
#
# usage: bench.sh DIST
#
# Prints a table with the budgets and writes target/bench.json, and every single
# value to target/bench.samples. What is measured lies in bench/ and runs in the
# test host; CPU time and instruction-counted time are taken here, from outside.
# No figure makes it fail: that is for those who read the table.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
dist=$(readlink -f "${1:?usage: bench.sh DIST}")
out=$here/../target
samples=$out/bench.samples
rounds=3
batch_limit_ms=300000

in_host() {
	"$outer" exec "$host" --timeout-ms 300000 -- "$@"
}

# Only sample lines count; the rest is for whoever looks into the log.
collect() {
	tee -a "$out/bench.log" | sed -un 's/^sample\t//p' >>"$samples"
}

cpu_of() { # cpu_of WORDS...: CPU milliseconds of the outer machine for once.sh WORDS
	local before
	before=$("$outer" cpu "$host")
	in_host /bench/once.sh "$@" >&2
	echo $(($("$outer" cpu "$host") - before))
}

# Peers take turns, so that the machine's load meets all of them alike; the
# first round warms up. Starting the script itself is taken off.
cpu_rounds() { # cpu_rounds NAME VERB PEERS...
	local name=$1 verb=$2 round peer cost nothing
	shift 2
	for ((round = 0; round <= rounds; round++)); do
		nothing=$(cpu_of nothing)
		for peer in "$@"; do
			cost=$(($(cpu_of "$verb" "$peer") - nothing))
			[ "$round" -eq 0 ] || printf '%s\tCPU ms\t%s\t%s\n' "$name" "$peer" "$cost" >>"$samples"
		done
	done
}

processor_time() {
	local peer
	in_host /bench/once.sh make
	cpu_rounds 'run true cpu' run caisson runc crun qemu
	for peer in caisson runc crun; do in_host /bench/once.sh idle "$peer"; done
	cpu_rounds 'exec true cpu' exec caisson runc crun
	for peer in caisson runc crun; do in_host /bench/once.sh end "$peer"; done
}

# A guest in the counting machine may stop for good, which costs real minutes:
# what the batch printed until its limit counts, the rest is missing.
virtual_time() {
	local stage=$out/bench-batch
	rm -rf "$stage"
	mkdir -p "$stage/in" "$stage/out"
	cp -r "$here"/bench/. "$stage/in/"
	cp -r "$dist" "$stage/in/dist"
	rm -f "$stage"/in/dist/share/caisson/*-stock*
	"$outer" batch --state "$state" --icount --timeout-ms "$batch_limit_ms" \
		--input "$stage/in" --output "$stage/out" || echo "bench: the counting machine did not finish" >&2
	collect <"$stage/out/log"
	rm -rf "$stage/in"
}

sizes() {
	local file
	for file in bin/caisson libexec/caisson/{caisson-vmm,caisson-fs,caisson-vsock} share/caisson/{initramfs.cpio,vmlinux}; do
		printf 'size of %s\tMiB\tcaisson\t%s\n' "$(basename "$file")" \
			"$(stat -c %s "$dist/$file" | awk '{ printf "%.2f", $1 / 1048576 }')" >>"$samples"
	done
}

mkdir -p "$out"
: >"$samples"
: >"$out/bench.log"
state=$("$here/outer-vm/warm.sh")
outer=$state/bin/outer-vm
host=$("$outer" start --state "$state" --owner $$)
trap '"$outer" stop "$host"' EXIT
"$outer" put "$host" "$here/bench" /bench
"$outer" put "$host" "$dist" /bench/dist

# Beside the rest on the second processor: neither kind of figure is wall time.
virtual_time &
virtual=$!
processor_time
for part in exits memory files; do
	in_host "/bench/$part.sh" | collect
done
"$outer" check "$host" || echo "bench: the test host's kernel complained; the figures are worthless" >&2
wait "$virtual"
sizes

jq --raw-input --slurp --slurpfile budgets "$here/bench/budgets.json" --from-file "$here/bench/rows.jq" "$samples" >"$out/bench.json"
jq --raw-output --from-file "$here/bench/table.jq" "$out/bench.json"
