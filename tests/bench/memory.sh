#!/usr/bin/env bash
# What idle containers cost the host: PSS of each process without guest RAM,
# guest RAM touched, and the fall of MemAvailable with eight at once.
# Runs inside the test host, which must be idle otherwise.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=scene.sh
. "$(dirname "$(readlink -f "$0")")/scene.sh"
# shellcheck source-path=SCRIPTDIR source=pss.sh
. "$bench/pss.sh"
many=8
containers=1 # at the moment
suffix=      # of the rows

available_kib() { awk '/^MemAvailable:/ { print $2 }' /proc/meminfo; }

processes() { # processes PEER MACHINE TITLE=PATTERN...
	local peer=$1 machine=$2
	shift 2
	pss_each "$peer" '' "$suffix" "$@"
	sample "host PSS MiB$suffix" MiB "$peer" "$(mib "$pss_total_kib")"
	sample "guest RAM touched$suffix" MiB "$peer" "$(mib "$(pss guest "$machine")")"
}

machine_processes() { # machine_processes PEER
	case $1 in
	caisson)
		processes caisson 'caisson/(caisson-vmm|caisson-fs)' \
			'monitor=caisson monitor' 'vmm=caisson/caisson-vmm' 'file server=caisson/caisson-fs'
		;;
	krun) processes krun 'peer/krun' 'vmm=peer/krun' ;;
	qemu)
		processes qemu '^(qemu-system|/usr/libexec/virtiofsd)' \
			'vmm=^qemu-system' 'file server=^/usr/libexec/virtiofsd'
		;;
	esac
}

measure() { # measure PEER
	local peer=$1 before i
	run_once "$peer" true || return
	before=$(available_kib)
	for ((i = 1; i <= many; i++)); do
		start_idle "$peer" "idle$i" || return
		containers=$i
		case $i in
		1) suffix= ;;
		"$many") suffix=", each of $many" ;;
		*) continue ;;
		esac
		sleep 4
		machine_processes "$peer"
	done
	sample 'memory per idle container MiB' MiB "$peer" "$(mib $(((before - $(available_kib)) / many)))"
	stop_idle "$peer"
}

scene_make
for peer in $(present caisson runc crun krun qemu); do
	surely measure "$peer"
done
