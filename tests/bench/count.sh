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
	} END { for (name in sum) printf "%s\t%d\n", name, sum[name] }' "$events/kvm_exit/hist" | sort
}

busiest() { # busiest EVENT: its five most frequent keys
	{ grep hitcount "$events/$1/hist" || true; } | awk -v event="$1" '{ gsub(/[{}]/, ""); print $NF "\t" event " " $0 }' | sort -rn | head -n 5
}

# exits_of PEER: samples of what was counted, the busiest addresses for the log.
exits_of() {
	sample 'kvm exits' exits "$1" "$(count kvm_exit)"
	sample 'kvm exits to user space' exits "$1" "$(count kvm_userspace_exit)"
	by_reason | while IFS=$'\t' read -r name hits; do
		sample "kvm exits: $name" exits "$1" "$hits"
	done
	echo "busiest of $1:"
	busiest kvm_pio
	busiest kvm_mmio
}

# Writes to the queue-notify register of any virtio-mmio device, at 0x50 of its
# page or half page.
notifications() {
	awk -F'[:} ]+' '/gpa:/ && $3 ~ /[0-9a-f](0|2|4|6|8|a|c|e)50$/ { sum += $NF } END { print sum + 0 }' "$events/kvm_mmio/hist"
}
