#!/usr/bin/env bash
# What Docker makes of caisson's containers when something breaks, and when much
# happens at once.
#
# usage: docker-faults.sh [RUNTIME]
#
# RUNTIME as in docker.sh. $FILTER and $SHORT choose scenarios.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=docker-daemon.sh
. "$here/docker-daemon.sh"

# Signs of the steps of a start, in their order.
shim_is_there() { pgrep -f '^/[^ ]*containerd-shim-' >/dev/null; }
owner_is_there() { pgrep -f 'caisson monitor' >/dev/null; }
machine_is_there() { pgrep -f 'caisson/caisson-vmm' >/dev/null; }
link_is_there() { ip -o link show type veth | grep -q .; }
program_runs() { [ -e "$work/shared/runs" ]; }

# at_once COMMAND...: as soon as it succeeds, without a pause in between.
at_once() {
	local left=100000
	until "$@"; do
		[ $((left -= 1)) -gt 0 ] || return 1
	done
}

# The daemon is killed at a step, comes back, and knows what is true.
killed_at() { # killed_at STEP
	local starting
	mkdir -p "$work/shared"
	rm -f "$work/shared/runs"
	docker create --name one --runtime "$runtime" -v "$work/shared:/shared" busybox sh -c 'touch /shared/runs; sleep 1000'
	docker start one &
	starting=$!
	at_once "$1"
	signal_daemon KILL
	wait $starting || true
	start_daemon
	contains "$(docker inspect -f '{{.State.Status}}' one)" 'created exited'
	equal '' "$(docker ps -q)"
	# It can be started as if nothing had been.
	docker start one
	docker exec one true
	docker rm -f one
}

killed_at_creation() {
	docker create --name one --runtime "$runtime" busybox true &
	local creating=$!
	signal_daemon KILL
	wait $creating || true
	start_daemon
	docker rm -f one || true
	equal '' "$(docker ps -aq)"
}

live_restore() {
	signal_daemon TERM
	start_daemon --live-restore
	alive
	docker exec one touch /tmp/mark
	signal_daemon KILL
	start_daemon --live-restore
	equal running "$(docker inspect -f '{{.State.Status}}' one)"
	docker exec one test -e /tmp/mark
	docker stop -t 0 one
	equal 137 "$(docker inspect -f '{{.State.ExitCode}}' one)"
	docker rm one
	signal_daemon TERM
	start_daemon
}

machine_dies() {
	alive
	pkill -KILL -f caisson/caisson-vmm
	equal 137 "$(docker wait one)"
	equal exited "$(docker inspect -f '{{.State.Status}}' one)"
	docker start one
	docker exec one true
	pkill -KILL -f caisson/caisson-fs
	equal 137 "$(docker wait one)"
	docker rm one
}

# Whoever holds the far end of the wire may take it away.
network_goes() {
	alive
	ip -o link show type veth | sed -E 's/^[0-9]+: ([^@:]+).*/\1/' | xargs -n 1 ip link delete
	soon has_links one 1
	equal up "$(docker exec one echo up)"
	docker rm -f one
	alive
	docker exec one true
	docker rm -f one
}
has_links() { [ "$(docker exec "$1" ls /sys/class/net | wc -w)" = "$2" ]; }

volume_goes() {
	mkdir -p "$work/going"
	alive -v "$work/going:/v"
	rmdir "$work/going"
	equal up "$(docker exec one echo up)"
	fails_with 1 docker exec one touch /v/x
	docker rm -f one
}

many_at_once() {
	local number many=10
	# Docker waits twelve seconds for an end. By path each takes a second of the test
	# host's one processor.
	[ "$runtime" != caisson ] || many=5
	for number in $(seq "$many"); do
		timeout -s KILL 1800 docker run -d --name "many-$number" --runtime "$runtime" --memory 32m --network none busybox sleep 10000 &
	done
	wait $(jobs -p)
	equal "$many" "$(docker ps -q --filter name=many- | wc -l)"
	docker ps -q --filter name=many- | xargs -P "$many" -n 1 timeout -s KILL 1800 docker rm -f
}

begin
essential 'the daemon is killed while a program starts' killed_at program_runs
scenario 'the daemon is killed while a shim starts' killed_at shim_is_there
scenario 'the daemon is killed while an owner starts' killed_at owner_is_there
scenario 'the daemon is killed while a machine starts' killed_at machine_is_there
scenario 'the daemon is killed while a network is made' killed_at link_is_there
scenario 'the daemon is killed while a container is created' killed_at_creation
scenario 'containers outlive the daemon' live_restore
scenario 'the machine dies, the file server dies' machine_dies
scenario 'the network is taken away' network_goes
scenario 'a volume is taken away' volume_goes
scenario 'many at once' many_at_once
verdict
