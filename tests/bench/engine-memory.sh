#!/usr/bin/env bash
# What one idle container of containerd costs the host in processes: PSS without
# guest RAM. Runs inside the test host with the engines up (engines.sh).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=scene.sh
. "$(dirname "$(readlink -f "$0")")/scene.sh"
# shellcheck source-path=SCRIPTDIR source=engines.sh
. "$bench/engines.sh"
# shellcheck source-path=SCRIPTDIR source=pss.sh
. "$bench/pss.sh"
containers=1

measure() { # measure PEER TITLE=PATTERN...
	local peer=$1
	shift
	engine_run ctr "$peer"
	engine_idle "$peer"
	sleep 4
	pss_each "$peer" 'ctr: ' '' "$@"
	sample 'ctr: host PSS' MiB "$peer" "$(mib "$pss_total_kib")"
	engine_end
}

measure caisson 'shim=containerd-shim-caisson-v2 ' 'monitor=caisson monitor' \
	'vmm=caisson/caisson-vmm' 'file server=caisson/caisson-fs'
measure runc 'shim=containerd-shim-runc-v2 '
