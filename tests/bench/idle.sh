#!/usr/bin/env bash
# KVM exits per second of an idle machine. Runs inside the test host and owns its
# kvm trace triggers meanwhile.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=scene.sh
. "$(dirname "$(readlink -f "$0")")/scene.sh"
# shellcheck source-path=SCRIPTDIR source=count.sh
. "$bench/count.sh"
seconds=10

idle() { # idle PEER
	surely start_idle "$1" quiet
	sleep 5
	counting on
	sleep "$seconds"
	sample 'idle exits per second' exits/s "$1" "$(awk -v n="$(count kvm_exit)" -v s="$seconds" 'BEGIN { printf "%.1f", n / s }')"
	echo "idle exits of $1 in $seconds s:"
	by_reason
	counting off
	stop_idle "$1"
}

scene_make
for peer in $(present caisson krun qemu); do
	surely run_once "$peer" true
	idle "$peer"
done
