# A containerd of a script's own, for the scripts that source this: they write its
# configuration to $work/config.toml, and say with `answers` whether it can be used.
#
# Owns the daemon: starting and stopping it.

start_containerd() {
	containerd --config "$work/config.toml" >>"$work/containerd.log" 2>&1 &
	# Scenarios run in shells of their own: its number is kept in a file.
	echo $! >"$work/daemon"
	soon answers >/dev/null 2>&1
}

stop_containerd() { # stop_containerd SIGNAL
	local daemon
	daemon=$(cat "$work/daemon")
	kill "-$1" "$daemon"
	soon has_ended "$daemon"
}
