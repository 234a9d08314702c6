#!/usr/bin/env bash
# KVM exits by reason: of a whole run, and per second of an idle machine.
# Runs inside the test host and owns its kvm trace triggers meanwhile.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=scene.sh
. "$(dirname "$(readlink -f "$0")")/scene.sh"
# shellcheck source-path=SCRIPTDIR source=count.sh
. "$bench/count.sh"

# SVM's exit codes by name; the rest is one sum.
by_reason() {
	awk -F'[:} ]+' '/exit_reason:/ {
		code = $3; hits = $NF
		if (code == 1024) name = "nested page fault"
		else if (code == 123) name = "port"
		else if (code == 114) name = "cpuid"
		else if (code == 124) name = "msr"
		else if (code == 120) name = "hlt"
		else if (code == 96 || code == 100) name = "interrupt"
		else if (code < 32) name = "control register"
		else name = "other"
		sum[name] += hits
	} END { for (name in sum) printf "%s\t%d\n", name, sum[name] }' "$events/kvm_exit/hist"
}

busiest() { # busiest EVENT: its five most frequent keys, for the log
	{ grep hitcount "$events/$1/hist" || true; } | awk -v event="$1" '{ gsub(/[{}]/, ""); print $NF "\t" event " " $0 }' | sort -rn | head -n 5
}

whole_run() { # whole_run PEER
	surely counted_run "$1" true
	sample 'kvm exits' exits "$1" "$(count kvm_exit)"
	sample 'kvm exits to user space' exits "$1" "$(count kvm_userspace_exit)"
	by_reason | while IFS=$'\t' read -r name hits; do
		sample "kvm exits: $name" exits "$1" "$hits"
	done
	echo "busiest of $1:"
	busiest kvm_pio
	busiest kvm_mmio
	counting off
}

idle() { # idle PEER
	local seconds=10 total
	surely start_idle "$1" quiet
	sleep 5
	counting on
	sleep "$seconds"
	total=$(count kvm_exit)
	sample 'idle exits per second' exits/s "$1" "$(awk -v n="$total" -v s="$seconds" 'BEGIN { printf "%.1f", n / s }')"
	counting off
	stop_idle "$1"
}

scene_make
for peer in $(present caisson krun krunfw qemu); do
	surely run_once "$peer" true
	whole_run "$peer"
	idle "$peer"
done
