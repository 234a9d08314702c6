# shellcheck shell=bash
# The memory of processes, by the share that is theirs. Sourced inside the test host.

mib() { awk -v kib="$1" 'BEGIN { printf "%.2f", kib / 1024 }'; }

# pss_each PEER BEFORE AFTER TITLE=PATTERN...: a row for each, titled BEFOREhost PSS of
# TITLEAFTER, and in $pss_total_kib their sum.
pss_each() {
	local peer=$1 before=$2 after=$3 pair kib
	shift 3
	pss_total_kib=0
	for pair in "$@"; do
		kib=$(pss own "${pair#*=}")
		pss_total_kib=$((pss_total_kib + kib))
		sample "${before}host PSS of ${pair%%=*}$after" MiB "$peer" "$(mib "$kib")"
	done
}

# pss guest|own PATTERN: KiB of guest RAM, or of everything else, over all
# processes with that command line, by $containers. Guest RAM is a file without a
# name or, in libkrun, the only mappings of 100 MiB and more.
pss() {
	local pid
	for pid in $(pgrep -f "$2"); do
		cat "/proc/$pid/smaps" 2>/dev/null || true
	done | awk -v want="$1" -v n="$containers" '
		$1 ~ /^[0-9a-f]+-[0-9a-f]+$/ { nameless = /\(deleted\)$/ }
		$1 == "Size:" { guest = nameless || $2 > 100 * 1024 }
		$1 == "Pss:" { kib[guest ? "guest" : "own"] += $2 }
		END { printf "%d", kib[want] / n }'
}
