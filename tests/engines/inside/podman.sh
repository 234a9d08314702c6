#!/usr/bin/env bash
# What users of Podman, as root, do, done with caisson.
#
# usage: podman.sh
#
# $FILTER and $SHORT choose scenarios.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=scenario.sh
. "$here/scenario.sh"
# shellcheck source=image.sh
. "$here/image.sh"
variant=
export PATH=/opt/caisson/bin:$PATH

podman() { timeout -s KILL 180 podman "$@"; }
run() { podman --runtime caisson run --rm "$@"; }
# alive WORDS...: a container named `one` that stays.
alive() { podman --runtime caisson run -d --name one "$@" busybox sleep 1000; }

clear_away() {
	podman rm -af -t 0
	podman network prune -f
}

begin() {
	caisson setup podman
	podman --version
	busybox_tree "$work/tree"
	tar -C "$work/tree" -c . | podman import - busybox >/dev/null 2>&1
}

its_own_kernel() {
	contains caisson "$(run busybox uname -r)"
}

exit_codes() {
	fails_with 7 run busybox sh -c 'exit 7'
	said=$(fails_with 127 run busybox nosuch)
	contains 'executable file not found' "$said"
	said=$(fails_with 126 run busybox /etc)
	contains 'is a directory' "$said"
	# The machine's processes are all that there are.
	said=$(run --pid host busybox ps)
	contains ps "$said"
	[[ $said != *conmon* ]]
	said=$(fails_with 125 run --network host busybox true || fails_with 126 run --network host busybox true)
	contains network "$said"
}

exec_in() {
	alive
	equal hello "$(podman exec one echo hello)"
	fails_with 3 podman exec one sh -c 'exit 3'
	equal "$(seq 100000 | cksum)" "$(seq 100000 | podman exec -i one cat | cksum)"
	# Podman and conmon set the size beside the start: it may come a moment later.
	contains 40 "$(on_a_terminal 'stty cols 77 rows 40; podman exec -it one sh -c "until stty size | grep 40; do sleep 1; done"')"
	fails_with 127 podman exec one nosuch
	podman rm -f -t 0 one
}

logs_and_stop() {
	podman --runtime caisson run -d --name one busybox sh -c 'trap "echo bye; exit 9" TERM; echo up; while :; do sleep 0.1; done'
	soon logs_are up
	podman stop -t 20 one
	equal $'up\nbye' "$(podman logs one)"
	equal 9 "$(podman inspect -f '{{.State.ExitCode}}' one)"
	podman start one
	podman exec one true
	podman kill one
	equal 137 "$(podman wait one)"
	podman rm one
}
logs_are() { [ "$(podman logs one)" = "$1" ]; }

# What is copied into a running container stays inside of it.
copying() {
	alive
	echo host >"$work/file"
	podman cp "$work/file" one:/srv/file
	[ ! -e /srv/file ]
	equal host "$(podman exec one cat /srv/file)"
	podman exec one sh -c 'echo guest >/srv/other'
	podman cp one:/srv/other "$work/other"
	equal guest "$(cat "$work/other")"
	podman rm -f -t 0 one
}

limits() {
	alive --memory 96m --pids-limit 30
	equal 100663296 "$(podman exec one cat /sys/fs/cgroup/memory.max)"
	podman update --memory 64m one
	equal 67108864 "$(podman exec one cat /sys/fs/cgroup/memory.max)"
	podman pause one
	podman unpause one
	contains 'sleep 1000' "$(podman top one -o pid,args)"
	podman stats --no-stream one
	podman rm -f -t 0 one
}

volumes() {
	mkdir -p "$work/volume"
	alive -v "$work/volume:/v" --tmpfs /t:size=3m
	echo two >"$work/volume/file"
	equal two "$(podman exec one cat /v/file)"
	podman exec one sh -c 'echo three >/v/file'
	equal three "$(cat "$work/volume/file")"
	podman rm -f -t 0 one
}

published_port() {
	alive -p 18080:80
	podman exec -d one httpd -f -p 80 -h /etc
	address=$(podman inspect -f '{{.NetworkSettings.Networks.podman.IPAddress}}' one)
	contains "$address/16" "$(podman exec one ip address)"
	soon busybox wget -q -O "$work/page" "http://$address/passwd"
	contains root "$(busybox wget -q -O - http://127.0.0.1:18080/passwd)"
	podman stop -t 20 one
	fails_with 1 busybox wget -q -T 5 -O - http://127.0.0.1:18080/passwd
	podman start one
	podman exec -d one httpd -f -p 80 -h /etc
	soon busybox wget -q -O "$work/page" http://127.0.0.1:18080/passwd
	podman rm -f -t 0 one
}

# aardvark-dns answers on the far end of the bridge.
user_network() {
	podman network create net
	alive --network net --network-alias web
	podman run -d --name two --network net busybox httpd -f -p 80 -h /etc
	contains root "$(podman exec one wget -q -O - http://two/passwd)"
	podman exec -d one httpd -f -p 80 -h /etc
	soon podman exec two wget -q -O /tmp/got http://web/passwd
	podman network disconnect net one
	equal lo "$(podman exec one ls /sys/class/net)"
	podman network connect net one
	podman exec one wget -q -O /dev/null http://two/passwd
	podman rm -f -t 0 one two
	podman network rm net
}

# Conmon looks into the host's cgroup, which knows nothing of it: OOMKilled is false.
out_of_memory() {
	podman --runtime caisson run --name one --memory 64m busybox tail /dev/zero || equal 137 $?
	equal 137 "$(podman inspect -f '{{.State.ExitCode}}' one)"
	podman rm one
}

restart_policy() {
	podman --runtime caisson run -d --name one --restart on-failure:2 busybox sh -c 'echo up; exit 4'
	soon restarted_twice
	podman rm -f -t 0 one
}
restarted_twice() { [ "$(podman logs one | grep -c up)" = 3 ]; }

health() {
	alive --health-cmd 'test -e /tmp/well' --health-interval disable
	fails_with 1 podman healthcheck run one
	podman exec one touch /tmp/well
	podman healthcheck run one
	podman rm -f -t 0 one
}

# Without its conmon nobody tells Podman of a container's end, but it goes away.
killed_from_outside() {
	alive
	kill -KILL "$(podman inspect -f '{{.State.Pid}}' one)"
	equal 137 "$(podman wait one)"
	podman start one
	kill -KILL "$(podman inspect -f '{{.State.ConmonPid}}' one)"
	podman rm -f -t 0 one
}

bad_input() {
	said=$(fails_with 125 run --mount type=bind,source=/nosuch,target=/x busybox true || fails_with 126 run --mount type=bind,source=/nosuch,target=/x busybox true)
	contains /nosuch "$said"
	mkdir -p "$work/bare/etc"
	tar -C "$work/bare" -c . | podman import - bare
	said=$(fails_with 127 run bare true)
	contains 'executable file not found' "$said"
	podman rmi bare
}

begin
essential 'a container has its own kernel' its_own_kernel
scenario 'exit codes' exit_codes
essential 'exec' exec_in
essential 'logs, stop, start, kill' logs_and_stop
scenario 'cp both ways' copying
scenario 'limits, pause, top, stats' limits
scenario 'memory runs out' out_of_memory
scenario 'restart policy' restart_policy
scenario 'health checks' health
scenario 'volumes change live both ways' volumes
essential 'published port' published_port
scenario 'user network with names' user_network
scenario 'killed from outside' killed_from_outside
scenario 'bad input' bad_input
verdict
