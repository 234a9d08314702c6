#!/usr/bin/env bash
# Runs every part of `make test`, and prints a summary of all of them at the end.
#
# usage: all.sh DIST
#
# Each part's whole output lies in target/test/PART.log. The summary has every part's
# time, status and number of tests, and of each failure its test's name and what it
# reported, so that the end of a long log says everything. Ends with 1 if a part failed.
# Owns the order of the parts, and which of them run side by side; not what they do.
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
dist=$(readlink -f "${1:?usage: all.sh DIST}")
logs=$here/../target/test
engines=${SHORT_ENGINES:?run by make test}
parts=(unit tcg suites fuzz packages kvm-1 kvm-2 engines)

# part NAME COMMAND...: leaves NAME.log, NAME.status and NAME.seconds, and prints the
# lines that name a test.
part() {
	local name=$1 began=$SECONDS status
	shift
	"$@" 2>&1 </dev/null | tee "$logs/$name.log" |
		sed -unE "s/^(test |tests: |suites: |running )/$name: \1/p"
	status=${PIPESTATUS[0]}
	echo "$status" >"$logs/$name.status"
	echo $((SECONDS - began)) >"$logs/$name.seconds"
	echo "part $name: $((SECONDS - began)) s, status $status"
}

target() { make --no-print-directory -C "$here/.." "$@" DIST="$dist"; }

# What libtest and libtest-mimic print of each failure, with an end to each.
failure_texts() {
	awk '/^---- /{lines = 0; printing = 1}
		/^failures:$/ || /^test result:/ {printing = 0}
		printing && lines++ < 25 {print}' "$1"
}

# Totals of the lines "test result: ... N passed; M failed".
totals() {
	grep -aE '^test result: ' "$1" | grep -oE '[0-9]+ (passed|failed)' |
		awk '{count[$2] += $1} END {print count["passed"] + 0, count["failed"] + 0}'
}

# A part's failures, and its last lines when it failed without naming a test.
explain() {
	local log=$logs/$1.log
	echo "--- $1 failed; all of it: target/test/$1.log"
	grep -aE '^test .*FAILED' -B 5 "$log"
	failure_texts "$log"
	echo "--- the end of $1:"
	tail -n 20 "$log"
}

summary() {
	local name passed failed all=0 worst=0
	echo "=== summary"
	for name in "${parts[@]}"; do
		[ "$(cat "$logs/$name.status")" = 0 ] || { worst=1 && explain "$name"; }
	done
	for name in "${parts[@]}"; do
		read -r passed failed < <(totals "$logs/$name.log")
		all=$((all + passed + failed))
		echo "part $name: $(cat "$logs/$name.seconds") s, status $(cat "$logs/$name.status"), $passed passed, $failed failed"
	done
	echo "$all tests in $SECONDS s"
	return $worst
}

rm -rf "$logs"
mkdir -p "$logs"
# A test host has one processor: half of its tests run beside all the rest.
{
	SHORT=1 part kvm-1 "$here/run.sh" kvm:1/2 "$dist"
	SHORT=1 part engines "$here/engines/run.sh" "$dist" "$engines"
} &
for name in unit tcg suites; do
	part "$name" target "test-$name"
done
{
	part fuzz target fuzz FUZZ_PROFILE=dev
	part packages target test-package
} &
SHORT=1 part kvm-2 "$here/run.sh" kvm:2/2 "$dist"
wait
summary
