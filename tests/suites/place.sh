# shellcheck shell=bash
# Sourced. The two places a suite runs in: a Debian tree on this machine
# (containers in emulated machines), or a restored test host (real KVM). Both
# have the control, bats, jq and QEMU, and show what is put into them as
# /opt/NAME. Knows no suite.

# What is shown in the tree; the test host keeps it itself.
place_shows=()

# place_start MACHINE
place_start() {
	place_machine=$1
	if [ "$place_machine" = tcg ]; then
		place_tree=$(tree_folder)
		return
	fi
	local state
	state=$("$suites/../outer-vm/warm.sh")
	place_outer=$state/bin/outer-vm
	place_host=$("$place_outer" start --state "$state" --owner $$)
	"$place_outer" put "$place_host" "$(additions_folder)" /
}

# place_put FOLDER NAME
place_put() {
	if [ "$place_machine" = tcg ]; then
		place_shows+=("$2=$1")
	else
		"$place_outer" put "$place_host" "$1" "/opt/$2"
	fi
}

# place_run COMMAND...: its output as it comes, its exit code.
place_run() {
	if [ "$place_machine" = tcg ]; then
		nice -n 5 "$suites/enter.sh" "$place_tree" "${place_shows[@]}" -- "$@" </dev/null
	else
		"$place_outer" exec "$place_host" --timeout-ms 10800000 -- "$@"
	fi
}

# place_get NAME FOLDER: the contents of /opt/NAME, which was put before.
place_get() {
	if [ "$place_machine" = kvm ]; then
		"$place_outer" get "$place_host" "/opt/$1" "$2"
	fi
}

# place_end: an oops of the test host's kernel makes results worthless.
place_end() {
	local status=0
	if [ "${place_host:-}" ]; then
		"$place_outer" check "$place_host" || status=$?
		"$place_outer" stop "$place_host"
		place_host=
	fi
	return $status
}
