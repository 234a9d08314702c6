#!/usr/bin/env bash
# What idle containers cost the host: PSS of each process without guest RAM,
# guest RAM touched, and the fall of MemAvailable with eight at once.
# Runs inside the test host, which must be idle otherwise.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=scene.sh
. "$(dirname "$(readlink -f "$0")")/scene.sh"
many=8
containers=1 # at the moment
suffix=     # of the rows

available_kib() { awk '/^MemAvailable:/ { print $2 }' /proc/meminfo; }
mib() { awk -v kib="$1" 'BEGIN { printf "%.2f", kib / 1024 }'; }

# field FIELDS PATTERN: KiB of these smaps fields, over all processes with that
# command line, per container.
field() {
	local pid
	for pid in $(pgrep -f "$2"); do
		cat "/proc/$pid/smaps_rollup" 2>/dev/null || true
	done | awk -v want="$1" -v n="$containers" '
		BEGIN { split(want, names, ","); for (i in names) wanted[names[i] ":"] = 1 }
		$1 in wanted { kib += $2 } END { printf "%d", kib / n }'
}

# Guest RAM is a memfd in every peer, so it is the shared-memory part.
processes() { # processes PEER TITLE=PATTERN...
	local peer=$1 pair kib total=0
	shift
	for pair in "$@"; do
		kib=$(field Pss_Anon,Pss_File "${pair#*=}")
		total=$((total + kib))
		sample "host PSS of ${pair%%=*}$suffix" MiB "$peer" "$(mib "$kib")"
	done
	sample "host PSS MiB$suffix" MiB "$peer" "$(mib "$total")"
	sample "guest RAM touched$suffix" MiB "$peer" "$(mib "$(field Pss_Shmem "$machine")")"
}

machine_processes() { # machine_processes PEER
	case $1 in
	caisson)
		machine='caisson/(caisson-vmm|caisson-fs)'
		processes caisson 'monitor=caisson monitor' 'vmm=caisson/caisson-vmm' 'file server=caisson/caisson-fs'
		;;
	qemu)
		machine='^(qemu-system|/usr/libexec/virtiofsd)'
		processes qemu 'vmm=^qemu-system' 'file server=^/usr/libexec/virtiofsd'
		;;
	esac
}

measure() { # measure PEER
	local peer=$1 before i
	run_once "$peer" true
	before=$(available_kib)
	start_idle "$peer" idle1
	sleep 4
	containers=1
	suffix=
	machine_processes "$peer"
	for ((i = 2; i <= many; i++)); do
		start_idle "$peer" "idle$i"
	done
	sleep 4
	containers=$many
	suffix=", each of $many"
	machine_processes "$peer"
	sample 'memory per idle container MiB' MiB "$peer" "$(mib $(((before - $(available_kib)) / many)))"
	stop_idle "$peer"
}

scene_make
for peer in "${peers[@]}"; do
	measure "$peer"
done
