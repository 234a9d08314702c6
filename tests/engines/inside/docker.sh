#!/usr/bin/env bash
# What users of Docker do, done with caisson.
#
# usage: docker.sh [RUNTIME]
#
# RUNTIME: `caisson` (the default) or the name of the shim. $FILTER and $SHORT choose
# scenarios. What Docker does when something breaks is docker-faults.sh's.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=docker-daemon.sh
. "$here/docker-daemon.sh"

its_own_kernel() {
	contains caisson "$(run busybox uname -r)"
	[ "$(run busybox uname -r)" != "$(uname -r)" ]
}

exit_codes() {
	fails_with 7 run busybox sh -c 'exit 7'
	fails_with 143 run busybox sh -c 'sleep 99 & kill -TERM $!; wait $!'
	said=$(fails_with 127 run busybox nosuch)
	contains 'executable file not found' "$said"
	# Docker 20.10 knows "permission denied" alone, which runtimes of its days said.
	local folder=126
	[ "${SUITE:-}" != bookworm ] || folder=125
	said=$(fails_with $folder run busybox /etc)
	contains 'is a directory' "$said"
	said=$(fails_with 125 docker run --rm --runtime "$runtime" --network host busybox true) ||
		said=$(fails_with 128 docker run --rm --runtime "$runtime" --network host busybox true)
	contains network "$said"
}

exec_in() {
	alive
	equal 'hello' "$(docker exec one echo hello)"
	fails_with 3 docker exec one sh -c 'exit 3'
	equal "$(seq 100000 | cksum)" "$(seq 100000 | docker exec -i one cat | cksum)"
	# Docker 20.10 sets the size after the start.
	local size='stty size'
	[ -z "${SUITE:-}" ] || size='sh -c "until stty size | grep 40; do sleep 1; done"'
	contains 40 "$(on_a_terminal "stty cols 77 rows 40; docker exec -it one $size")"
	equal 1000:1000 "$(docker exec -u 1000:1000 one sh -c 'echo $(id -u):$(id -g)')"
	equal /srv "$(docker exec -w /srv one pwd)"
	equal x "$(docker exec -e A=x one sh -c 'echo $A')"
	# Docker 26 and before say so of every runtime.
	local missing=127
	[ -z "${SUITE:-}" ] || missing=126
	fails_with $missing docker exec one nosuch
	docker rm -f one
}

twenty_execs_at_once() {
	local number pids=()
	alive
	for number in $(seq 20); do
		docker exec one sh -c "echo exec $number" >"$work/exec-$number" &
		pids+=($!)
	done
	for number in $(seq 20); do
		wait "${pids[$((number - 1))]}"
		equal "exec $number" "$(cat "$work/exec-$number")"
	done
	docker rm -f one
}

attach_and_logs() {
	docker run -di --name one --runtime "$runtime" busybox sh -c 'read line; echo "got $line"; sleep 3; echo later; exit 5'
	docker logs -f one >"$work/followed" &
	local follower=$!
	echo word | fails_with 5 docker attach one
	wait $follower
	equal $'got word\nlater' "$(cat "$work/followed")"
	equal $'got word\nlater' "$(docker logs one)"
	docker rm one
}

stats_and_top() {
	alive --memory 96m
	said=$(docker stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' one)
	contains MiB "$said"
	contains 'sleep 1000' "$(docker top one)"
	docker rm -f one
}

pausing() {
	docker run -d --name one --runtime "$runtime" busybox sh -c 'while :; do date +%s%N >/tmp/now; sleep 0.1; done'
	docker pause one
	equal paused "$(docker inspect -f '{{.State.Status}}' one)"
	fails_with 1 docker exec one true
	docker unpause one
	equal running "$(docker inspect -f '{{.State.Status}}' one)"
	docker exec one true
	docker rm -f one
}

copying() {
	alive
	echo host >"$work/file"
	docker cp "$work/file" one:/srv/file
	equal host "$(docker exec one cat /srv/file)"
	docker exec one sh -c 'echo guest >/srv/other'
	docker cp one:/srv/other "$work/other"
	equal guest "$(cat "$work/other")"
	docker rm -f one
}

updating() {
	alive --memory 96m --pids-limit 30
	equal 100663296 "$(docker exec one cat /sys/fs/cgroup/memory.max)"
	equal 30 "$(docker exec one cat /sys/fs/cgroup/pids.max)"
	docker update --memory 64m --memory-swap 64m --pids-limit 40 --cpus 0.5 one
	equal 67108864 "$(docker exec one cat /sys/fs/cgroup/memory.max)"
	equal 40 "$(docker exec one cat /sys/fs/cgroup/pids.max)"
	equal '50000 100000' "$(docker exec one cat /sys/fs/cgroup/cpu.max)"
	# A machine does not grow.
	said=$(fails_with 1 docker update --memory 1g --memory-swap 1g one)
	contains 'more than the machine has' "$said"
	docker rm -f one
}

ending() {
	alive
	docker kill one
	equal 137 "$(docker wait one)"
	docker rm one
	docker run -d --name one --runtime "$runtime" busybox sh -c 'trap "exit 9" TERM; while :; do sleep 0.1; done'
	docker stop -t 20 one
	equal 9 "$(docker inspect -f '{{.State.ExitCode}}' one)"
	docker rm one
	alive
	docker stop -t 1 one
	equal 137 "$(docker inspect -f '{{.State.ExitCode}}' one)"
	docker start one
	docker exec one true
	docker restart -t 0 one
	docker exec one true
	docker rm -f one
}

restart_policy() {
	docker run -d --name one --runtime "$runtime" --restart on-failure:2 busybox sh -c 'echo up; exit 4'
	equal 4 "$(docker wait one)"
	soon restarted_twice
	docker rm -f one
}
restarted_twice() { [ "$(docker logs one | grep -c up)" = 3 ]; }

health() {
	docker run -d --name one --runtime "$runtime" --health-cmd 'test -e /tmp/well' --health-interval 1s --health-retries 2 busybox sleep 1000
	soon health_is unhealthy
	docker exec one touch /tmp/well
	soon health_is healthy
	docker rm -f one
}
health_is() { [ "$(docker inspect -f '{{.State.Health.Status}}' one)" = "$1" ]; }

volumes() {
	mkdir -p "$work/volume"
	echo one >"$work/volume/file"
	alive -v "$work/volume:/v" -v "$work/volume:/ro:ro" -v new:/named
	equal one "$(docker exec one cat /v/file)"
	echo two >"$work/volume/file"
	equal two "$(docker exec one cat /v/file)"
	docker exec one sh -c 'echo three >/v/file'
	equal three "$(cat "$work/volume/file")"
	fails_with 1 docker exec one touch /ro/x
	docker exec one touch /named/x
	docker rm -f one
	docker run --rm --runtime "$runtime" -v new:/named busybox test -e /named/x
	docker volume rm new
}

options() {
	contains 'size=3072k' "$(run --tmpfs /t:size=3m busybox grep ' /t ' /proc/mounts)"
	contains 'size=8192k' "$(run --shm-size 8m busybox grep /dev/shm /proc/mounts)"
	equal 77 "$(run --ulimit nofile=77 busybox sh -c 'ulimit -n')"
	equal 1 "$(run --sysctl net.ipv4.ip_forward=1 busybox cat /proc/sys/net/ipv4/ip_forward)"
	fails_with 1 run --read-only busybox touch /x
	equal 1000 "$(run --user 1000 busybox id -u)"
	contains 'CapEff:	0000000000000000' "$(run --cap-drop ALL busybox grep CapEff /proc/self/status)"
	contains 'Seccomp:	2' "$(run busybox grep Seccomp: /proc/self/status)"
	contains 'Seccomp:	0' "$(run --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status)"
	fails_with 1 run --security-opt "seccomp=$here/no-mkdir.json" busybox mkdir /tmp/x
	equal name "$(run --hostname name busybox hostname)"
	equal '/sbin/docker-init' "$(run --init busybox sh -c 'cut -d "" -f 1 /proc/1/cmdline | tr "\0" "\n" | head -n 1')"
	run --device /dev/null:/dev/nothing busybox sh -c 'echo x >/dev/nothing'
	run --device /dev/fuse busybox test -c /dev/fuse
}

privileged() {
	run --privileged busybox sh -c 'mount -t tmpfs t /tmp && hostname other && ! test -e /dev/kvm'
	equal "$(hostname)" "$(cat /proc/sys/kernel/hostname)"
}

no_network() {
	equal lo "$(run --network none busybox sh -c 'ls /sys/class/net')"
}

default_bridge() {
	alive -p 18080:80
	docker exec -d one sh -c 'echo served >/srv/index.html; httpd -f -p 80 -h /srv'
	address=$(docker inspect -f '{{.NetworkSettings.IPAddress}}' one)
	contains "$address/16" "$(docker exec one ip address show eth0)"
	soon busybox wget -q -O "$work/page" "http://$address/"
	equal served "$(cat "$work/page")"
	equal served "$(busybox wget -q -O - http://127.0.0.1:18080/)"
	equal served "$(plain busybox wget -q -O - "http://$address/")"
	docker exec one ping -c 1 -W 20 172.17.0.1
	docker rm -f one
}

user_network() {
	docker network create net
	alive --network net --network-alias web
	docker run -d --name two --runtime runc --network net busybox httpd -f -p 80 -h /etc
	docker exec one nslookup two 127.0.0.11
	contains root "$(docker exec one wget -q -O - http://two/passwd)"
	docker exec -d one httpd -f -p 80 -h /etc
	soon docker exec two wget -q -O /tmp/got http://web/passwd
	docker rm -f one two
	docker network rm net
}

connecting() {
	docker network create second
	alive
	docker network connect second one
	soon has_links one 3
	address=$(docker inspect -f '{{.NetworkSettings.Networks.second.IPAddress}}' one)
	contains "$address" "$(docker exec one ip address)"
	docker exec -d one httpd -f -p 80 -h /etc
	soon busybox wget -q -O /dev/null "http://$address/passwd"
	docker network disconnect second one
	soon has_links one 2
	docker rm -f one
	docker network rm second
}
has_links() { [ "$(docker exec "$1" ls /sys/class/net | wc -w)" = "$2" ]; }

building() {
	mkdir -p "$work/build"
	printf 'FROM busybox\nRUN uname -r >/kernel\n' >"$work/build/Dockerfile"
	DOCKER_BUILDKIT=0 docker build -q -t built "$work/build"
	docker rmi built
}

bad_input() {
	fails_with 127 run --entrypoint /nosuch busybox
	said=$(fails_with 125 run --mount type=bind,source=/nosuch,target=/x busybox true)
	contains nosuch "$said"
	said=$(run --sysctl net.nosuch=1 busybox true 2>&1) && return 1
	contains net.nosuch "$said"
	# An image without programs.
	mkdir -p "$work/bare/etc"
	tar -C "$work/bare" -c . | docker import - bare
	said=$(fails_with 127 run bare true)
	contains 'executable file not found' "$said"
	docker rmi bare
	# A volume that is gone when the container is started.
	mkdir "$work/gone"
	docker create --name one --runtime "$runtime" --mount "type=bind,source=$work/gone,target=/x" busybox true
	rmdir "$work/gone"
	said=$(fails_with 1 docker start one)
	contains "$work/gone" "$said"
	docker rm one
}

# By path Docker looks into the host's cgroup, which knows nothing of it.
out_of_memory() {
	local told=true
	[ "$runtime" != caisson ] || told=false
	docker run --name one --runtime "$runtime" --memory 64m busybox tail /dev/zero || equal 137 $?
	equal "$told 137" "$(docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' one)"
	docker rm one
	# The init lives on.
	docker run -d --name one --runtime "$runtime" --memory 64m busybox sh -c 'tail /dev/zero; echo $?; sleep 1000'
	soon has_logged 137
	equal "$told running" "$(docker inspect -f '{{.State.OOMKilled}} {{.State.Status}}' one)"
	docker rm -f one
}
has_logged() { [ "$(docker logs one 2>/dev/null)" = "$1" ]; }

# Names lead from each to each, as they do where services depend on another.
compose() {
	mkdir -p "$work/shop"
	cat >"$work/shop/compose.yaml" <<-END
		services:
		  store:
		    image: busybox
		    runtime: $runtime
		    command: sh -c 'echo from the store >/srv/goods; exec httpd -f -p 80 -h /srv'
		    stop_grace_period: 0s
		  middle:
		    image: busybox
		    runtime: $runtime
		    depends_on: [store]
		    command: sh -c 'until wget -q -O /srv/goods http://store/goods; do sleep 1; done; exec httpd -f -p 80 -h /srv'
		    stop_grace_period: 0s
		  front:
		    image: busybox
		    runtime: $runtime
		    depends_on: [middle]
		    command: sh -c 'until wget -q -O /srv/goods http://middle/goods; do sleep 1; done; exec httpd -f -p 80 -h /srv'
		    ports: ["18081:80"]
		    stop_grace_period: 0s
	END
	in_shop up --detach --quiet-pull
	soon busybox wget -q -O "$work/goods" http://127.0.0.1:18081/goods
	equal 'from the store' "$(cat "$work/goods")"
	equal 3 "$(in_shop ps --quiet | wc -l)"
	in_shop exec -T store wget -q -O /dev/null http://front/goods
	in_shop down
	equal '' "$(docker ps -aq)"
}
in_shop() { (cd "$work/shop" && timeout -s KILL 300 docker compose "$@"); }

begin
essential 'a container has its own kernel' its_own_kernel
scenario 'exit codes are those of runc' exit_codes
essential 'exec' exec_in
scenario 'twenty execs at once' twenty_execs_at_once
essential 'attach and logs' attach_and_logs
scenario 'stats and top' stats_and_top
scenario 'pause and unpause' pausing
scenario 'cp both ways' copying
scenario 'update' updating
essential 'kill, stop, start, restart' ending
scenario 'restart policy' restart_policy
scenario 'health checks' health
scenario 'memory runs out' out_of_memory
scenario 'volumes change live both ways' volumes
scenario 'options of run' options
scenario 'privileged stays in the guest' privileged
scenario 'no network' no_network
essential 'default bridge and published ports' default_bridge
scenario 'user network with names' user_network
scenario 'network connect and disconnect' connecting
scenario 'build' building
if [ -n "${SUITE:-}" ]; then
	echo "docker.sh: compose is not of $SUITE, and is not run"
else
	scenario 'compose of three services' compose
fi
scenario 'bad input' bad_input
verdict
