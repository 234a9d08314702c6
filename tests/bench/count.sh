# shellcheck shell=bash
# Counters of KVM's trace points, kept by the test host's kernel. Sourced.
events=/sys/kernel/tracing/events/kvm
triggers=(kvm_exit:exit_reason kvm_userspace_exit:reason kvm_pio:port kvm_mmio:gpa.hex)

# counting on|off: on begins at zero; off, also when it was off, forgets.
counting() {
	local trigger bang
	for bang in '!' ''; do
		for trigger in "${triggers[@]}"; do
			echo "${bang}hist:keys=${trigger#*:}:size=4096" >"$events/${trigger%%:*}/trigger"
		done 2>/dev/null
		[ "$1" = on ] || return 0
	done
}

# counted_run PEER BUNDLE: with the counters of this run alone.
counted_run() {
	counting on
	run_once "$@"
}

count() { # count EVENT: all hits
	awk '/Hits:/ { print $2 }' "$events/$1/hist"
}

# Writes to the queue-notify register of any virtio-mmio device, at 0x50 of its
# page or half page.
notifications() {
	awk -F'[:} ]+' '/gpa:/ && $3 ~ /[0-9a-f](0|2|4|6|8|a|c|e)50$/ { sum += $NF } END { print sum + 0 }' "$events/kvm_mmio/hist"
}
