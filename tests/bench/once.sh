#!/usr/bin/env bash
# One action of one peer, for a caller that takes the time around it.
# usage: once.sh make | run PEER | idle PEER | exec PEER | end PEER | nothing
#        once.sh engines | docker PEER | docker-path PEER | docker-bridge PEER | ctr PEER
# Runs inside the test host; measures nothing itself.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=scene.sh
. "$(dirname "$(readlink -f "$0")")/scene.sh"
case $1 in
engines | docker* | ctr)
	# shellcheck source-path=SCRIPTDIR source=engines.sh
	. "$bench/engines.sh"
	;;&
make) scene_make ;;
run) run_once "$2" true ;;
idle) start_idle "$2" "execs-$2" || { clear_away "$2" && exit 1; } ;; # a name of its own, else the same cgroup would be refused
exec) runtime "$2" exec "execs-$2" true </dev/null ;;
end) stop_idle "$2" ;;
engines) engines_start ;;
docker* | ctr) engine_run "$1" "$2" ;;
nothing) ;;
esac
