# The trace of one `run true` to samples: differences between its marks, in
# virtual milliseconds. A mark that is missing leaves out the rows it bounds.

function mark(name) { if (!(name in at)) at[name] = now }

function row(from, to, name) {
	if ((from in at) && (to in at))
		printf "sample\tsplit: %s\tvms\t%s\t%.1f\n", name, peer, (at[to] - at[from]) * 1000
}

# Programs lie at 4 MiB (fixed) or high up (moved); the kernel runs at 16 MiB
# first, then in the negative half.
function in_program(   at_rip) {
	at_rip = substr($0, index($0, "rip 0x") + 6)
	sub(/ .*/, "", at_rip)
	return at_rip ~ /^[4-9a-f]/ && length(at_rip) == 6 || at_rip ~ /^(55|56|7f)/ && length(at_rip) == 12
}

!match($0, / [0-9]+\.[0-9]+: /) { next }
{ now = substr($0, RSTART + 1, RLENGTH - 3) + 0 }

/sched_process_exec: filename=[^ ]*\/(bin\/caisson|virtiofsd|krun) / { mark("begin") }
/sched_process_exec: filename=[^ ]*\/(caisson-vmm|qemu-system-x86_64|krun) / {
	mark("vmm")
	match($0, / pid=[0-9]+/)
	vmm = substr($0, RSTART, RLENGTH)
}
/cmd: 0xae80/ { mark("kernel") }
/kvm_exit: / && in_program() {
	mark("process")
	if ("agent" in at) mark("program")
}
/sys_recvmsg -> 0x[1-9]/ { mark("agent") }
/kvm_userspace_exit: / { at["off"] = now }
/sched_process_exit: / && vmm && index($0, vmm " ") { at["gone"] = now }
/tracing_mark_write: end/ { mark("end") }

END {
	row("begin", "vmm", "command to VMM start")
	row("vmm", "kernel", "VMM start to first guest instruction")
	row("kernel", "process", "kernel entry to first process")
	row("kernel", "agent", "kernel entry to agent ready")
	row("agent", "program", "agent ready to program start")
	row("program", "off", "program start to guest off")
	row("process", "off", "first process to guest off")
	row("off", "gone", "guest off to VMM ending")
	row("gone", "end", "VMM ending to end of command")
}
