# Docker with caisson, for the scripts of its scenarios, which source this with their
# own folder in $here and their own arguments.
#
# Owns the daemon: starting, stopping and killing it. $runtime is what containers
# run on: `caisson`, the command line by its path as `caisson setup docker` enters
# it, or the name of the shim.

# shellcheck source=scenario.sh
. "$here/scenario.sh"
# shellcheck source=image.sh
. "$here/image.sh"
runtime=${1:-caisson}
variant=$runtime
export PATH=/opt/caisson/bin:$PATH

# Every call has a limit: a daemon that hangs is a failure, not a wait.
docker() { timeout -s KILL 180 docker "$@"; }
run() { docker run --rm --runtime "$runtime" "$@"; }
plain() { docker run --rm --runtime runc "$@"; }
# alive WORDS...: a container named `one` that stays.
alive() { docker run -d --name one --runtime "$runtime" "$@" busybox sleep 1000; }

clear_away() {
	docker ps -aq | xargs -r timeout -s KILL 300 docker rm -f
	docker network prune -f
}

# A daemon gives its containerd a few seconds to answer, and gives up; a service
# manager starts it again then, and so does this.
start_daemon() {
	local attempt
	for attempt in 1 2 3 4 5; do
		dockerd "$@" >>"$work/dockerd.log" 2>&1 &
		# Scenarios run in shells of their own: the number is kept in a file.
		echo $! >"$work/dockerd.number"
		soon answers_or_ended
		if docker version >/dev/null 2>&1; then return 0; fi
	done
	echo "no daemon after $attempt attempts:"
	tail -n 3 "$work/dockerd.log"
	return 1
}
answers_or_ended() { docker version >/dev/null 2>&1 || has_ended "$(cat "$work/dockerd.number")"; }

# signal_daemon SIGNAL: sends it, and returns when the daemon has ended, and the
# containerd that is its child.
signal_daemon() {
	local number
	number=$(cat "$work/dockerd.number")
	kill "-$1" "$number"
	soon has_ended "$number"
	soon no_containerd
	rm -f /var/run/docker.pid
}
no_containerd() { ! pgrep -f '^containerd --config /var/run/docker/' >/dev/null; }

begin() {
	caisson setup docker
	start_daemon
	trap 'signal_daemon TERM' EXIT
	dockerd --version
	containerd --version
	busybox_tree "$work/tree"
	tar -C "$work/tree" -c . | docker import - busybox >/dev/null
}
