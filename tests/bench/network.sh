#!/usr/bin/env bash
# TCP through a container's network, one action for a caller that takes the time around
# it. Each peer is a container that sleeps, in a namespace of its own with a veth to
# one more, in which a runc container serves. Runs inside the test host.
#
# usage: network.sh make PEER...            starts all of them
#        network.sh turn PEER               from now on the others' machines stand still
#        network.sh load PEER WORDS...      tells how long the load WORDS took
#        network.sh counts PEER NAME PER WORDS...  samples of what one more takes, per PER
#
# PEER: runc (the control), or caisson[+vhost][+2]; vhost: packets are moved by the
# host's kernel; 2: two virtual CPUs.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=scene.sh
. "$(dirname "$(readlink -f "$0")")/scene.sh"
# shellcheck source-path=SCRIPTDIR source=count.sh
. "$bench/count.sh"
server=10.9.0.1:7000
calls=/sys/kernel/tracing/events/raw_syscalls/sys_enter

runtime_of() { echo "${1%%+*}"; }

# in_network NAME NAMESPACE: the bundle NAME lives in the namespace NAMESPACE.
in_network() {
	local dir=$scene/bundles/$1
	jq --arg path "/run/netns/$2" '(.linux.namespaces[] | select(.type == "network")).path = $path' \
		"$dir/config.json" >"$dir/new"
	mv "$dir/new" "$dir/config.json"
}

# lay_wire PEER: namespaces near-PEER and far-PEER.
lay_wire() {
	local near=near-$1 far=far-$1
	ip netns add "$near"
	ip netns add "$far"
	ip -n "$far" link add far0 type veth peer name eth0 netns "$near"
	ip -n "$far" address add 10.9.0.1/24 dev far0
	ip -n "$near" address add 10.9.0.2/24 dev eth0
	ip -n "$far" link set far0 up
	ip -n "$near" link set eth0 up
}

server_up() { # server_up PEER
	words[server]="/bin/probe serve-load $server"
	bundle server
	in_network server "far-$1"
	runc run --detach --bundle "$scene/bundles/server" "server-${1//+/-}" </dev/null >/dev/null 2>&1
}

client_up() { # client_up PEER
	local vcpus=1 dir=$scene/bundles/client config
	[[ $1 != *+2 ]] || vcpus=2
	words[client]='/bin/sleep 100000'
	bundle client
	in_network client "near-$1"
	[ "$1" = runc ] || {
		config=$scene/$1.toml
		echo "max_vcpus = $vcpus" >"$config"
		[[ $1 != *+vhost* ]] || echo 'vhost_net = true' >>"$config"
		export CAISSON_CONFIG=$config
		jq --argjson n "$vcpus" '.vm.hwConfig.vcpus = $n' "$dir/config.json" >"$dir/new"
		mv "$dir/new" "$dir/config.json"
	}
	runtime "$(runtime_of "$1")" run --detach --pid-file "$scene/$1.pid" --bundle "$dir" "client-${1//+/-}" \
		</dev/null >/dev/null 2>&1
}

clear_away() { runtime "$(runtime_of "$1")" delete --force "client-${1//+/-}"; }

machine_of() { pgrep -P "$(cat "$scene/$1.pid")" -x caisson-vmm; }

turn() {
	local file peer signal
	for file in "$scene"/*.pid; do
		peer=$(basename "$file" .pid)
		signal=STOP
		[ "$peer" != "$1" ] || signal=CONT
		[ "$peer" = runc ] || kill "-$signal" "$(machine_of "$peer")"
	done
}

load() { # load PEER WORDS...
	runtime "$(runtime_of "$1")" exec "client-${1//+/-}" probe load "$server" "${@:2}"
}

count_calls() { # count_calls ! | count_calls '': system calls of the peer's machine
	echo "$1hist:keys=common_pid.execname:size=2048" >"$calls/trigger" 2>/dev/null || true
}
calls_of_machines() { awk -F'[:} ]+' '/caisson-vmm/ { sum += $NF } END { print sum + 0 }' "$calls/hist"; }

counts() { # counts PEER NAME PER WORDS...
	local peer=$1 name=$2 per=$3 row
	counting on
	count_calls ''
	load "$peer" "${@:4}" >/dev/null
	for row in "exits:$(count kvm_exit)" "notifications:$(notifications)" \
		"calls of the VMM:$(calls_of_machines)"; do
		sample "$name, ${row%%:*}" count "$peer" "$(awk -v n="${row#*:}" -v per="$per" 'BEGIN { printf "%.0f", n / per }')"
	done
	echo "exits of $peer, $name:"
	by_reason
	count_calls '!'
	counting off
}

make() {
	local peer
	scene_make
	install -m 0755 "$bench/probe" "$scene/tree/bin/probe"
	for peer in "$@"; do
		lay_wire "$peer"
		server_up "$peer"
		surely client_up "$peer"
	done
}

"$@"
