# shellcheck shell=bash
# Ends guests that have stopped for good, which happens where instructions are
# counted. Sourced by `run`. Such a guest spins: of what makes exits only the
# timers' ticks are left, about 310 a second, while one that boots or works makes
# thousands. An idle guest looks the same, so nobody may watch one.
# shellcheck disable=SC2154 # kvm_stat is the sourcing script's

window_s=0.03
few=20     # exits in a window
patience=4 # windows

# No process is started in the loop: what it costs is in every peer's time.
watch_guests() {
	local before=0 now=0 quiet=0 machines
	exec 8<> <(:)
	while :; do
		read -rt "$window_s" -u 8
		machines=("$kvm_stat"/[0-9]*-*)
		read -r now <"$kvm_stat/exits"
		quiet=$((now - before < few && now > 100 && ${#machines[*]} == 1 ? quiet + 1 : 0))
		before=$now
		if [ "$quiet" -ge "$patience" ] && [ -e "${machines[0]}" ]; then
			quiet=0
			kill_machines
		fi
	done
}

watch_on() {
	watch_guests 2>/dev/null &
	watcher=$!
}

watch_off() {
	kill "$watcher"
	wait "$watcher" 2>/dev/null || true
}
