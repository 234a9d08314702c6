#!/usr/bin/env bash
# Runs one suite of others against the control (runc) and caisson, side by side.
#
# usage: run.sh runc|runtime-tools|pjdfstest|fsx tcg|kvm DIST [NAME...]
#
# tcg: here, in a Debian tree of its own. kvm: in a restored test host. With
# names, only those files of runc's suite, programs of runtime-tools, or cache
# modes. Leaves target/suites/SUITE-MACHINE.json and, in a folder of that name,
# all that both sides said; prints a table, and ends with 1 if caisson fails what
# the control passes and SUITE-allow.toml doesn't name. Owns which part of a
# suite is run; the suites' code is fetched by sources.sh.
set -euo pipefail
suites=$(dirname "$(readlink -f "$0")")
usage='usage: run.sh runc|runtime-tools|pjdfstest|fsx tcg|kvm DIST [NAME...]'
suite=${1:?$usage}
machine=${2:?$usage}
dist=$(readlink -f "${3:?$usage}")
shift 3

# runc's files. Left out are checkpoint (criu: saving a machine is another
# feature), seccomp-notify* (its listener is refused), selinux and mounts_sshfs
# (need a host with SELinux, sshd).
runc_files=(capabilities cgroup_delegation cgroups cpu_affinity create cwd debug delete dev env
	events exec help hooks hooks_so host-mntns idmap ioprio kill list mask mounts
	mounts_propagation mounts_recursive no_pivot pause personality pidfd-socket ps rlimits root
	run scheduler seccomp spec start start_detached start_hello state timens tty umask update
	userns version)
# Values of the setting file_cache.
file_modes=(auto always never)

# shellcheck source=sources.sh
. "$suites/sources.sh"
# shellcheck source=place.sh
. "$suites/place.sh"

control=/usr/sbin/runc
caisson=/opt/caisson/bin/caisson
target=${CARGO_TARGET_DIR:-$suites/../../target}
work=$(mktemp -d)
trap 'place_end || true; rm -rf "$work"' EXIT
mkdir -p "$work"/{results/control,results/caisson,settings}

# both SCRIPT WORDS...: the script of inside/ for the control, then for caisson.
both() {
	local script=$1 began
	shift
	began=$SECONDS
	echo "suites: $suite, control"
	place_run "/opt/inside/$script" "$control" /opt/results/control "$@"
	echo "suites: $suite, caisson on $machine (control: $((SECONDS - began)) s)"
	began=$SECONDS
	place_run env CAISSON_CONFIG=/opt/settings/caisson.toml \
		"/opt/inside/$script" "$caisson" /opt/results/caisson "$@"
	echo "suites: $suite took caisson $((SECONDS - began)) s"
}

run_runc() {
	if [ $# -eq 0 ]; then set -- "${runc_files[@]}"; fi
	both bats "$@"
}

run_runtime_tools() {
	if [ $# -eq 0 ]; then set -- "${runtime_tools_programs[@]}"; fi
	both runtime-tools "$@"
}

run_files() {
	local mode
	if [ $# -eq 0 ]; then set -- "${file_modes[@]}"; fi
	for mode; do
		both files "$mode" "$suite"
	done
}

case $suite in
runc) code=$(runc_suite_folder) runs=run_runc ;;
runtime-tools) code=$(runtime_tools_folder) runs=run_runtime_tools ;;
pjdfstest | fsx) code=$(file_suites_folder) runs=run_files ;;
*)
	echo "$usage" >&2
	exit 2
	;;
esac

echo "machine = \"$machine\"" >"$work/settings/caisson.toml"
place_start "$machine"
place_put "$dist" caisson
place_put "$code" suite
place_put "$suites/inside" inside
place_put "$work/settings" settings
place_put "$work/results" results
"$runs" "$@"
place_get results "$work/results"
place_end

said=$target/suites/$suite-$machine
rm -rf "$said"
mkdir -p "$target/suites"
mv "$work/results" "$said"
cargo run --quiet --locked --manifest-path "$suites/../Cargo.toml" --target-dir "$target" \
	--target x86_64-unknown-linux-gnu --bin caisson-verdict -- \
	"$suite" "$machine" "$said" "$suites/$suite-allow.toml" "$said.json"
