#!/usr/bin/env bash
# What users of containerd do with ctr, done with caisson's shim.
#
# usage: containerd.sh
#
# $FILTER chooses scenarios. Owns a containerd of its own, with a state folder of
# its own, which it ends.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=scenario.sh
. "$here/scenario.sh"
# shellcheck source=image.sh
. "$here/image.sh"
variant=
export PATH=/opt/caisson/bin:$PATH
export CONTAINERD_ADDRESS=$work/c.sock
image=localhost/busybox:1

# Every call has a limit: a daemon that hangs is a failure, not a wait.
ctr() { timeout -s KILL 120 ctr "$@"; }
run() { ctr run --rm --runtime io.containerd.caisson.v2 "$@"; }
# alive NAME WORDS...: a container that stays.
alive() {
	local name=$1
	shift
	ctr run -d --runtime io.containerd.caisson.v2 "$@" $image "$name" sleep 1000
}
in_it() { ctr tasks exec --exec-id "e$RANDOM$RANDOM" "$@"; }

# away NAME: kills it and forgets it.
away() {
	ctr tasks kill -s KILL "$1" || true
	soon state_is "$1" STOPPED
	ctr tasks delete "$1" || true
	ctr containers delete "$1"
}
state_is() { ctr tasks ls | grep -q "^$1 .*$2"; }
is_gone() { ! ctr tasks ls | grep -q "^$1 "; }
shim_of() { pgrep -f "containerd-shim-caisson-v2 .*-id $1 "; }

clear_away() {
	ctr tasks ls -q | while read -r name; do away "$name"; done
	ctr containers ls -q | xargs -r timeout -s KILL 60 ctr containers delete
}

start_containerd() {
	containerd --config "$work/config.toml" >>"$work/containerd.log" 2>&1 &
	daemon=$!
	soon ctr version >/dev/null 2>&1
}

stop_containerd() {
	kill "$daemon"
	# It may be another shell's child.
	soon has_ended "$daemon"
}
has_ended() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status"; }

begin() {
	cat >"$work/config.toml" <<-EOF
		version = 2
		root = "$work/root"
		state = "$work/state"
		disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"]
		[grpc]
		address = "$CONTAINERD_ADDRESS"
	EOF
	start_containerd
	busybox_tree "$work/tree"
	oci_archive "$work/tree" $image >"$work/image.tar"
	ctr images import "$work/image.tar" >/dev/null
	trap 'kill $daemon' EXIT
}

its_own_kernel() {
	contains caisson "$(run $image one uname -r)"
	contains caisson "$(run --snapshotter native $image one uname -r)"
	[ "$(run $image one uname -r)" != "$(uname -r)" ]
}

exit_codes() {
	fails_with 7 run $image one sh -c 'exit 7'
	fails_with 143 run $image one sh -c 'sh -c "kill -TERM \$\$"; exit $?'
	said=$(fails_with 1 run $image one nosuch)
	contains 'executable file not found' "$said"
	said=$(fails_with 1 run --net-host $image one true)
	contains network "$said"
}

standard_streams() {
	equal hello "$(run $image one echo hello)"
	equal "$(seq 20000 | cksum)" "$(seq 20000 | run $image one cat | cksum)"
	equal "$(seq 200000 | tail -n 1)" "$(run $image one seq 200000 | tail -n 1)"
	contains '40 77' "$(on_a_terminal "stty cols 77 rows 40 </dev/tty; ctr run --rm -t --runtime io.containerd.caisson.v2 $image one sh -c 'sleep 1; stty size'")"
}

logs() {
	ctr run -d --runtime io.containerd.caisson.v2 --log-uri "file://$work/one.log" $image one sh -c 'echo out; echo err >&2'
	soon state_is one STOPPED
	equal $'err\nout' "$(sort "$work/one.log")"
	ctr tasks delete one
	ctr containers delete one
	printf '#!/bin/sh\nexec 5>&-\ncat <&3 >%s/two.log\n' "$work" >"$work/logger"
	chmod +x "$work/logger"
	ctr run -d --runtime io.containerd.caisson.v2 --log-uri "binary://$work/logger" $image two echo logged
	soon state_is two STOPPED
	ctr tasks delete two
	ctr containers delete two
	soon has_text "$work/two.log"
	equal logged "$(cat "$work/two.log")"
}
has_text() { [ -s "$1" ]; }

exec_in() {
	alive one
	equal hello "$(in_it one echo hello)"
	fails_with 3 in_it one sh -c 'exit 3'
	equal "$(seq 20000 | cksum)" "$(seq 20000 | in_it one cat | cksum)"
	contains terminal "$(on_a_terminal "ctr tasks exec -t --exec-id t one sh -c 'test -t 0 && echo terminal'")"
	said=$(fails_with 1 in_it one nosuch)
	contains 'executable file not found' "$said"
	away one
}

# An exec that still runs ends before its container does.
order_of_events() {
	timeout 120 ctr events >"$work/events" &
	listener=$!
	alive one
	ctr tasks exec -d --exec-id work one sleep 1000
	away one
	kill $listener
	wait $listener || true
	grep -o '/tasks/[a-z-]* .*' "$work/events" | sed -E 's/ .*"id":"([a-z]*)".*/ \1/; s/ \{.*//' >"$work/order"
	equal "$(printf '/tasks/%s\n' create start exec-added exec-started 'exit work' 'exit one' delete)" "$(cat "$work/order")"
}

looking_and_pausing() {
	alive one --memory-limit 100663296
	contains 'memory.usage_limit' "$(ctr tasks metrics one)"
	contains 100663296 "$(ctr tasks metrics one | grep memory.usage_limit)"
	pid=$(ctr tasks ls | awk '$1 == "one" {print $2}')
	contains "$pid" "$(ctr tasks ps one)"
	ctr tasks pause one
	state_is one PAUSED
	ctr tasks resume one
	state_is one RUNNING
	equal up "$(in_it one echo up)"
	away one
}

containerd_restarts() {
	alive one
	stop_containerd
	start_containerd
	state_is one RUNNING
	equal up "$(in_it one echo up)"
	timeout 120 ctr events >"$work/events" &
	listener=$!
	away one
	kill $listener
	wait $listener || true
	grep -q /tasks/exit "$work/events"
	# The one that the next scenario finds is this shell's.
	echo $daemon >"$work/daemon"
}

# Killed, it leaves nothing; asked to end, it ends its containers.
shim_dies() {
	for signal in KILL TERM; do
		alive one
		kill -$signal "$(shim_of one)"
		soon is_gone one
		ctr containers delete one
		look_round
	done
}

boot_of() { in_it "$1" cat /proc/sys/kernel/random/boot_id; }

group_of_two() {
	alive first --annotation dev.caisson.group=pod
	alive second --annotation dev.caisson.group=pod --mount "type=bind,src=$work/tree/etc,dst=/mine,options=rbind:ro"
	equal "$(boot_of first)" "$(boot_of second)"
	equal 1 "$(pgrep -fc 'containerd-shim-caisson-v2 .* serve')"
	contains root "$(in_it second cat /mine/passwd)"
	fails_with 1 in_it first cat /mine/passwd
	in_it second sh -c 'echo only >/only'
	fails_with 1 in_it first cat /only
	fails_with 5 in_it second sh -c 'exit 5'
	contains '1 root' "$(in_it second ps)"
	away second
	state_is first RUNNING
	# It comes back into the same machine.
	alive second --annotation dev.caisson.group=pod
	equal "$(boot_of first)" "$(boot_of second)"
	# The first one's end is the machine's.
	ctr tasks kill -s KILL first
	soon state_is second STOPPED
	away second
	away first
}

what_it_is() {
	contains caisson "$(containerd-shim-caisson-v2 -v)"
	contains ociVersionMax "$(containerd-shim-caisson-v2 -info </dev/null | tr -d '\0')"
}

begin
scenario 'a container has its own kernel' its_own_kernel
scenario 'exit codes' exit_codes
scenario 'standard streams' standard_streams
scenario 'logs to a file and to a program' logs
scenario 'exec' exec_in
scenario 'order of events' order_of_events
scenario 'metrics, ps, pause' looking_and_pausing
scenario 'two containers in one machine' group_of_two
scenario 'the shim dies' shim_dies
scenario 'the shim says what it is' what_it_is
scenario 'containerd restarts' containerd_restarts
[ ! -e "$work/daemon" ] || daemon=$(cat "$work/daemon")
verdict
