# shellcheck shell=bash
# Where the time of one `run true` goes, from the outside: the kernel of the test
# host sees programs start and end, every entry into the guest, and, because
# CPUID always leaves the guest, each statically linked program that starts in
# it. Sourced by `run`; owns the trace buffer meanwhile.
# shellcheck disable=SC2154 # bench is the sourcing script's
tracing=/sys/kernel/tracing

trace_event() { # trace_event EVENT [FILTER]
	[ $# -eq 1 ] || echo "$2" >"$tracing/events/$1/filter"
	echo 1 >"$tracing/events/$1/enable"
}

trace_on() {
	echo 8192 >"$tracing/buffer_size_kb"
	echo mono >"$tracing/trace_clock"
	echo >"$tracing/trace"
	trace_event sched/sched_process_exec
	trace_event sched/sched_process_exit
	trace_event syscalls/sys_enter_ioctl 'cmd == 0xae80' # KVM_RUN
	trace_event kvm/kvm_userspace_exit
	trace_event kvm/kvm_exit 'exit_reason == 0x72' # CPUID
	# The thread that takes the guest's connections: the first is the agent's.
	trace_event syscalls/sys_exit_recvmsg 'comm == "streams"'
	echo 1 >"$tracing/tracing_on"
}

trace_off() {
	echo end >"$tracing/trace_marker"
	echo 0 >"$tracing/tracing_on"
	echo 0 >"$tracing/events/enable"
}

# split PEER: samples from the trace, which this ends.
split() {
	trace_off
	cp "$tracing/trace" "$BATCH_OUT/trace.$1"
	awk -v peer="$1" -f "$bench/split.awk" "$tracing/trace"
}
