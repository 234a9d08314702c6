#!/usr/bin/env bash
# What users of containerd do with ctr, done with caisson's shim.
#
# usage: containerd.sh
#
# $FILTER and $SHORT choose scenarios; $MANY is how many containers are started at
# once. Owns a containerd of its own, with a state folder of
# its own, which it ends.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=scenario.sh
. "$here/scenario.sh"
# shellcheck source=image.sh
. "$here/image.sh"
# shellcheck source=containerd-daemon.sh
. "$here/containerd-daemon.sh"
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
state_is() { grep "^$1 .*$2" <<<"$(ctr tasks ls)"; }
# A list that there isn't says nothing.
is_gone() {
	local all
	all=$(ctr tasks ls) && ! grep "^$1 " <<<"$all"
}
shim_of() { pgrep -f "containerd-shim-caisson-v2 .*-id $1 "; }

clear_away() {
	ctr tasks ls -q | while read -r name; do away "$name"; done
	ctr containers ls -q | xargs -r timeout -s KILL 60 ctr containers delete
}

answers() { ctr version; }

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
	trap 'stop_containerd TERM' EXIT
	containerd --version
	busybox_tree "$work/tree"
	oci_archive "$work/tree" $image >"$work/image.tar"
	ctr images import "$work/image.tar" >/dev/null
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
	listening a_life
	grep -o '/tasks/[a-z-]* .*' "$work/events" | sed -E 's/ .*"id":"([a-z]*)".*/ \1/; s/ \{.*//' >"$work/order"
	equal "$(printf '/tasks/%s\n' create start exec-added exec-started 'exit work' 'exit one' delete)" "$(cat "$work/order")"
}
a_life() {
	alive one
	ctr tasks exec -d --exec-id work one sleep 1000
	away one
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

# listening COMMAND...: what happens during it goes to $work/events.
listening() {
	timeout 300 ctr events >"$work/events" &
	local listener=$!
	soon hears
	"$@"
	kill $listener
	wait $listener || true
}

# A change that it is told of shows that it listens.
hears() {
	ctr namespaces label default "heard=$RANDOM"
	[ -s "$work/events" ]
}

containerd_restarts() {
	local name names
	names=$(seq -f live%g 10)
	for name in $names; do
		alive "$name" --memory-limit 33554432
	done
	stop_containerd KILL
	start_containerd
	for name in $names; do
		state_is "$name" RUNNING
		equal "up $name" "$(in_it "$name" echo "up $name")"
	done
	listening all_away "$names"
	for name in $names; do
		grep '/tasks/exit .*"exit_status":137' "$work/events" | grep -q "\"$name\""
	done
}
all_away() {
	local name
	for name in $1; do away "$name"; done
}

out_of_memory() {
	listening run_out
	grep -q '/tasks/oom .*"container_id":"one"' "$work/events"
}
run_out() { fails_with 137 run --memory-limit 67108864 $image one tail /dev/zero; }

# Killed, it leaves nothing, and containerd tells the end; asked to end, it ends
# its containers.
shim_dies() {
	for signal in KILL TERM; do
		alive one
		listening end_shim $signal one
		ctr containers delete one
		look_round
	done
}
end_shim() {
	kill "-$1" "$(shim_of "$2")"
	soon is_gone "$2"
	# In events' own time.
	soon tells_an_end
}
tells_an_end() { grep -q '/tasks/exit .*"exit_status":137' "$work/events"; }

bad_input() {
	said=$(fails_with 1 run --mount type=bind,src=/nosuch,dst=/x,options=rbind $image one true)
	contains /nosuch "$said"
	mkdir -p "$work/bare/etc"
	oci_archive "$work/bare" localhost/bare:1 >"$work/bare.tar"
	ctr images import "$work/bare.tar"
	said=$(fails_with 1 run localhost/bare:1 one true)
	contains 'executable file not found' "$said"
}

many_at_once() {
	local number numbers
	numbers=$(seq "${MANY:-50}")
	for number in $numbers; do
		timeout -s KILL 1800 ctr --connect-timeout 30m run -d --runtime io.containerd.caisson.v2 --memory-limit 33554432 $image "many$number" sleep 10000 &
	done
	wait $(jobs -p)
	equal "${MANY:-50}" "$(ctr tasks ls | grep -c RUNNING)"
	grep MemAvailable /proc/meminfo
	for number in $numbers; do
		ctr tasks kill -s KILL "many$number" &
	done
	wait $(jobs -p)
	soon none_runs
	for number in $numbers; do
		ctr tasks delete "many$number" || true
		ctr containers delete "many$number"
	done
}
none_runs() {
	local all
	all=$(ctr tasks ls) && ! grep RUNNING <<<"$all"
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
essential 'a container has its own kernel' its_own_kernel
scenario 'exit codes' exit_codes
essential 'standard streams' standard_streams
scenario 'logs to a file and to a program' logs
essential 'exec' exec_in
essential 'order of events' order_of_events
scenario 'metrics, ps, pause' looking_and_pausing
scenario 'memory runs out' out_of_memory
essential 'two containers in one machine' group_of_two
scenario 'bad input' bad_input
essential 'the shim dies' shim_dies
scenario 'the shim says what it is' what_it_is
scenario 'containerd is killed under ten containers' containerd_restarts
scenario 'many at once' many_at_once
verdict
