#!/usr/bin/env bash
# Runs container engines with caisson as their runtime, in a restored test host.
#
# usage: run.sh DIST ENGINE[@SUITE][:WORD...] [FILTER]
#
# ENGINE is a script of inside/ without its ending, such as `docker:caisson` or
# `podman`; the words behind colons are the script's. With SUITE the engine is that
# of an older Debian suite, such as `docker@bookworm`. Runs the scenarios whose
# title contains FILTER, prints a line for each, and ends with 1 if one failed.
# Owns the test host; what an engine is asked to do is its script's.
set -euo pipefail
engines=$(dirname "$(readlink -f "$0")")
usage='usage: run.sh DIST ENGINE[@SUITE][:WORD...] [FILTER]'
dist=$(readlink -f "${1:?$usage}")
IFS=: read -ra words <<<"${2:?$usage}"
filter=${3:-}
script=${words[0]%@*}
suite=
[[ ${words[0]} != *@* ]] || suite=${words[0]#*@}

if [ ! -e "$engines/inside/$script.sh" ]; then
	echo "engines: there is no engine $script: inside/ has $(cd "$engines/inside" && echo ./*.sh)" >&2
	exit 2
fi
if [ ! -e "$dist/share/caisson/vmlinux" ]; then
	echo "engines: $dist/share/caisson/vmlinux is missing: make dist" >&2
	exit 2
fi

state=$("$engines/../outer-vm/warm.sh")
outer=$state/bin/outer-vm
host=$("$outer" start --state "$state" --owner $$)
trap '"$outer" stop "$host"' EXIT
"$outer" put "$host" "$dist" /opt/caisson
"$outer" put "$host" "$engines/inside" /opt/engines
variables=(--env FILTER="$filter")
if [ -n "$suite" ]; then
	"$outer" put "$host" "$("$engines/older.sh" "$suite")" /opt/older
	variables+=(--env PATH=/opt/older/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
	variables+=(--env LD_LIBRARY_PATH=/opt/older/lib)
fi
status=0
"$outer" exec "$host" --follow-output --timeout-ms 5400000 "${variables[@]}" \
	-- "/opt/engines/$script.sh" "${words[@]:1}" || status=$?
"$outer" check "$host" || status=$?
exit $status
