#!/usr/bin/env bash
# Runs container engines with caisson as their runtime, in one restored test host.
#
# usage: run.sh DIST 'ENGINE[@SUITE][:WORD...] ...' [FILTER]
#
# ENGINE is a script of inside/ without its ending, such as `docker:caisson` or
# `podman`; the words behind colons are the script's. With SUITE the engine is that
# of an older Debian suite, such as `docker@bookworm`, or a version of containerd, such
# as `containerd@v2.4.2`. Several run one after the other. Runs the scenarios whose
# title matches the regular expression FILTER, with SHORT=1 in the environment those of
# the short selection alone; prints a line for each, and ends with 1 if one failed. Owns
# the test host; what an engine is asked to do is its script's.
set -euo pipefail
engines=$(dirname "$(readlink -f "$0")")
usage="usage: run.sh DIST 'ENGINE[@SUITE][:WORD...] ...' [FILTER]"
dist=$(readlink -f "${1:?$usage}")
read -ra wanted <<<"${2:?$usage}"
filter=${3:-}

if [ ! -e "$dist/share/caisson/vmlinux" ]; then
	echo "engines: $dist/share/caisson/vmlinux is missing: make dist" >&2
	exit 2
fi
for engine in "${wanted[@]}"; do
	script=${engine%%[@:]*}
	if [ ! -e "$engines/inside/$script.sh" ]; then
		echo "engines: there is no engine $script: inside/ has $(cd "$engines/inside" && echo ./*.sh)" >&2
		exit 2
	fi
done

# run_engine ENGINE: all of its scenarios.
run_engine() {
	local words name suite folder client variables=(--env FILTER="$filter" --env SHORT="${SHORT:-}" --env MANY="${MANY:-}")
	IFS=: read -ra words <<<"$1"
	name=${words[0]%@*}
	if [[ ${words[0]} == *@* ]]; then
		suite=${words[0]#*@}
		case $suite in
		v*) folder=$("$engines/built.sh" "$suite") || return ;;
		*) folder=$("$engines/older.sh" "$suite") || return ;;
		esac
		"$outer" put "$host" "$folder" "/opt/$suite" || return
		variables+=(--env SUITE="$suite")
		variables+=(--env PATH="/opt/$suite/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
		# Not by an environment: a daemon may not pass it on to all that it starts.
		"$outer" exec "$host" -- sh -c 'echo "$0" >/etc/ld.so.conf.d/older.conf && ldconfig' "/opt/$suite/lib" || return
	fi
	if [ "$name" = cri ]; then
		client=$("$engines/built.sh" cri) || return
		"$outer" put "$host" "$client" /opt/cri || return
	fi
	"$outer" exec "$host" --follow-output --timeout-ms 5400000 "${variables[@]}" \
		-- "/opt/engines/$name.sh" "${words[@]:1}"
}

state=$("$engines/../outer-vm/warm.sh")
outer=$state/bin/outer-vm
host=$("$outer" start --state "$state" --owner $$)
trap '"$outer" stop "$host"' EXIT
"$outer" put "$host" "$dist" /opt/caisson
"$outer" put "$host" "$engines/inside" /opt/engines
status=0
for engine in "${wanted[@]}"; do
	run_engine "$engine" || status=$?
done
"$outer" check "$host" || status=$?
exit $status
