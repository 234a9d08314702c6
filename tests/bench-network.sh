#!/usr/bin/env bash
# What TCP costs through a machine's network, beside two runc containers over a veth.
#
# usage: bench-network.sh DIST [PEER...]
#
# Prints a table and writes target/bench-network.samples (every single value) and
# target/bench-network.log. The actions lie in bench/network.sh and run in the test
# host; CPU time is taken here, from outside. Peers take turns, so that the machine's
# load meets all of them alike. No figure makes it fail: that is for those who read it.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
dist=$(readlink -f "${1:?usage: bench-network.sh DIST [PEER...]}")
shift
[ $# -gt 0 ] || set -- runc caisson caisson+2 caisson+vhost caisson+vhost+2
peers=("$@")
mib=${BENCH_NETWORK_MIB:-64}
turns=${BENCH_NETWORK_TURNS:-2000}
rounds=${BENCH_NETWORK_ROUNDS:-3}
out=$(readlink -m "$here/../target")
samples=$out/bench-network.samples log=$out/bench-network.log
triple=x86_64-unknown-linux-gnu
target_dir=${CARGO_TARGET_DIR:-$out}

in_host() {
	"$outer" exec "$host" --timeout-ms 1200000 -- /bench/network.sh "$@" 2>>"$log"
}

# take PEER NAME PER WORDS...: one round, as a sample; with NAME - the cost goes to
# `nothing`, which is taken off the others'.
take() {
	local peer=$1 name=$2 per=$3 before cpu us
	before=$("$outer" cpu "$host")
	us=$(in_host load "$peer" "${@:4}") || return 0
	cpu=$(($("$outer" cpu "$host") - before))
	if [ "$name" = - ]; then
		nothing=$cpu
		return
	fi
	awk -v name="$name" -v per="$per" -v peer="$peer" -v us="$us" -v ms=$((cpu - nothing)) 'BEGIN {
		printf "%s\tCPU s\t%s\t%.3f\n", name, peer, ms / 1e3 / per
		printf "%s\ts\t%s\t%.3f\n", name, peer, us / 1e6 / per }' >>"$samples"
}

# Name, per how much, and the load: kind, amount, connections.
loads() {
	local gib ten_thousand
	gib=$(awk -v mib="$mib" 'BEGIN { print mib / 1024 }')
	ten_thousand=$(awk -v n="$turns" 'BEGIN { print n / 10000 }')
	printf '%s\t%s\t%s\n' \
		'send, per GiB' "$gib" "send $((mib << 20)) 1" \
		'receive, per GiB' "$gib" "receive $((mib << 20)) 1" \
		'send over 4, per GiB' "$gib" "send $((mib << 20)) 4" \
		'receive over 4, per GiB' "$gib" "receive $((mib << 20)) 4" \
		'turns, per 10,000' "$ten_thousand" "turns $turns 1" \
		'turns of 8 at once, per 10,000' "$ten_thousand" "turns $turns 8"
}

measure() {
	local round peer name per words
	for ((round = 0; round < rounds; round++)); do
		for peer in "${peers[@]}"; do
			in_host turn "$peer"
			# What was asked of it while it stood still is over.
			take "$peer" - 1 send 1 1
			take "$peer" - 1 send 1 1
			while IFS=$'\t' read -r name per words <&3; do
				# shellcheck disable=SC2086 # several words
				take "$peer" "$name" "$per" $words
			done 3< <(loads)
		done
	done
	for peer in "${peers[@]}"; do
		[ "$peer" != runc ] || continue
		in_host turn "$peer"
		while IFS=$'\t' read -r name per words <&3; do
			# shellcheck disable=SC2086 # several words
			in_host counts "$peer" "$name" "$per" $words | tee -a "$log" | sed -un 's/^sample\t//p' >>"$samples"
		done 3< <(loads)
	done
}

mkdir -p "$out"
: >"$samples"
: >"$log"
RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --locked \
	--manifest-path "$here/Cargo.toml" --target "$triple" --target-dir "$target_dir" --bin caisson-suite
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cp "$here"/bench/{network,scene,count}.sh "$here"/bench/{workload,qemu-init} "$stage/"
cp "$target_dir/$triple/debug/caisson-suite" "$stage/probe"
cp -r "$dist" "$stage/dist"
rm -rf "$stage"/dist/share/caisson/*-stock*
state=$("$here/outer-vm/warm.sh")
outer=$state/bin/outer-vm
host=$("$outer" start --state "$state" --owner $$)
trap '"$outer" stop "$host"; rm -rf "$stage"' EXIT
"$outer" put "$host" "$stage" /bench

in_host make "${peers[@]}" >>"$log"
measure
"$outer" check "$host" || echo "bench-network: the test host's kernel complained; the figures are worthless" >&2
jq --raw-input --slurp --raw-output --from-file "$here/bench/network.jq" "$samples"
