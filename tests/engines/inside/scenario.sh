# Scenarios of an engine: titled functions that pass or fail, and what may be
# left when they are over. Sourced by the engines' scripts.
#
# Owns the counting and the looking round. A scenario is a function under
# `set -e`; what it prints is shown if it fails.

passed=0
failed=0
work=$(mktemp -d)
engine=$(basename "$0" .sh)

# essential TITLE FUNCTION [WORDS...]: a scenario of the short selection too.
essential() { SHORT='' scenario "$@"; }

# scenario TITLE FUNCTION [WORDS...]: runs it with these words, unless the title doesn't
# match the regular expression $FILTER, or only the short selection is wanted ($SHORT is
# not empty).
scenario() {
	local title="$engine${variant:+ $variant}: $1" status
	[[ $title =~ ${FILTER:-} && -z ${SHORT:-} ]] || return 0
	# In the condition of anything, the shell would not stop at a failure.
	set +e
	(
		# The trace of what is tried is not what that says.
		exec {BASH_XTRACEFD}>&1
		set -euxo pipefail
		"${@:2}"
	) >"$work/said" 2>&1
	status=$?
	set -e
	if [ $status = 0 ] && look_round >>"$work/said"; then
		passed=$((passed + 1))
		echo "test $title ... ok"
	else
		failed=$((failed + 1))
		echo "test $title ... FAILED"
		sed 's/^/    /' "$work/said" | tail -n 60
		clear_away >/dev/null 2>&1 || true
	fi
}

# The sum of it, for the end of a script.
verdict() {
	echo "test result: $passed passed; $failed failed"
	[ $failed = 0 ] && [ $passed -gt 0 ]
}

equal() { # equal EXPECTED ACTUAL
	if [ "$1" != "$2" ]; then
		echo "expected: $1"
		echo "     got: $2"
		return 1
	fi
}

contains() { # contains PART TEXT
	if [[ $2 != *"$1"* ]]; then
		echo "expected a text with: $1"
		echo "                 got: $2"
		return 1
	fi
}

# fails_with STATUS COMMAND...: prints what it says, and wants that exit status.
fails_with() {
	local expected=$1 status=0
	shift
	"$@" 2>&1 || status=$?
	equal "$expected" "$status"
}

# on_a_terminal SCRIPT: runs it with a terminal of its own, which nobody types on,
# and prints what it shows.
on_a_terminal() { timeout -s KILL 180 python3 "$here/terminal.py" "$1" </dev/null; }

# has_ended PID: also where nobody has asked for its status yet.
has_ended() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status"; }

# soon COMMAND...: it succeeds within a minute.
soon() {
	local attempt
	for attempt in $(seq 120); do
		if "$@"; then return 0; fi
		sleep 0.5
	done
	echo "not within $attempt attempts: $*"
	return 1
}

# What caisson or an engine's network could leave behind, a line each.
leftovers() {
	pgrep -af 'caisson' | grep -v -e '/opt/engines/' -e ' monitor-of-the-daemon ' -e 'dockerd' -e 'containerd --config' || true
	grep -i caisson /proc/self/mountinfo || true
	find /sys/fs/cgroup -maxdepth 4 -type d -name '*caisson*'
	ip -o link show type tun 2>/dev/null || true
	find /run/caisson /run/docker/runtime-runc/moby /run/caisson-shim/* /run/containerd/s -mindepth 1 -maxdepth 1 2>/dev/null || true
	# Bundles of a containerd of the script's own.
	find "$work"/state/io.containerd.{runtime.v2.task,sandbox.controller.v1.shim}/* -mindepth 1 -maxdepth 1 2>/dev/null || true
}

# Fails, and says what, if anything is left; processes get a moment to end.
look_round() {
	local attempt left
	for attempt in $(seq 20); do
		left=$(leftovers)
		if [ -z "$left" ]; then return 0; fi
		sleep 0.5
	done
	echo "left behind after $attempt looks:"
	echo "$left"
	return 1
}
