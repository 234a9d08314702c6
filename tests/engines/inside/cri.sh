#!/usr/bin/env bash
# What a kubelet does with containerd, done with caisson: pods over the Container
# Runtime Interface, with a pause container and with a sandbox of the shim's own.
#
# usage: cri.sh
#
# $FILTER and $SHORT choose scenarios. Owns a containerd of its own, with a network of
# CNI's plugins. How a single container behaves is containerd.sh's.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=scenario.sh
. "$here/scenario.sh"
# shellcheck source=image.sh
. "$here/image.sh"
# shellcheck source=containerd-daemon.sh
. "$here/containerd-daemon.sh"
variant=
export PATH=/opt/cri/bin:/opt/caisson/bin:$PATH
export CONTAINERD_ADDRESS=$work/c.sock CONTAINERD_NAMESPACE=k8s.io
image=localhost/busybox:1
pause=localhost/pause:1

# Every call has a limit: a daemon that hangs is a failure, not a wait.
cri() { timeout -s KILL 180 cri "$CONTAINERD_ADDRESS" "$@"; }

# pod_config NAME: what a kubelet says of a pod.
pod_config() {
	jq -cn --arg name "$1" --arg logs "$work/logs" '{hostname: "host-of-\($name)", logDirectory: $logs,
		metadata: {name: $name, uid: $name, namespace: "default"},
		linux: {sysctls: {"net.ipv4.ip_local_port_range": "2000 3000"},
			securityContext: {namespaceOptions: {pid: "CONTAINER"}},
			resources: {memoryLimitInBytes: "268435456"}}}'
}

# run_pod NAME HANDLER: prints the pod's id.
run_pod() {
	cri RunPodSandbox "$(jq -cn --argjson config "$(pod_config "$1")" --arg handler "$2" \
		'{config: $config, runtimeHandler: $handler}')" | jq -r .podSandboxId
}

# add POD_ID POD_NAME NAME WORDS...: a container of it, started; prints its id.
add() {
	local pod=$1 config id
	config=$(pod_config "$2")
	id=$(cri CreateContainer "$(jq -cn --arg pod "$pod" --argjson config "$config" --arg name "$3" --arg image $image \
		'{podSandboxId: $pod, sandboxConfig: $config, config: {metadata: {name: $name}, image: {image: $image},
		command: $ARGS.positional, logPath: "\($name).log",
		linux: {securityContext: {namespaceOptions: {pid: "CONTAINER"}}, resources: {memoryLimitInBytes: "67108864", cpuPeriod: "100000", cpuQuota: "50000"}}}}' \
		--args -- "${@:4}")" | jq -r .containerId) || return
	of_container StartContainer "$id" >/dev/null && echo "$id"
}

# in_it ID WORDS...: the output of a command in the container; the status is its.
in_it() {
	local answer
	answer=$(cri ExecSync "$(jq -cn --arg id "$1" '{containerId: $id, cmd: $ARGS.positional, timeout: "60"}' --args -- "${@:2}")") || return
	jq -r .stdout <<<"$answer" | base64 -d
	return "$(jq .exitCode <<<"$answer")"
}

of_container() { cri "$1" "$(jq -cn --arg id "$2" '{containerId: $id}')"; }
state_is() { [ "$(of_container ContainerStatus "$1" | jq -r .status.state)" = "$2" ]; }
of_pod() { cri "$1" "$(jq -cn --arg id "$2" '{podSandboxId: $id}')"; }
pod_state() { of_pod PodSandboxStatus "$1" | jq -r .status.state; }
boot_of() { in_it "$1" cat /proc/sys/kernel/random/boot_id; }

# stop_container ID: kills it, without a time of grace, and removes it.
stop_container() {
	of_container StopContainer "$1"
	of_container RemoveContainer "$1"
}

stop_pod() {
	of_pod StopPodSandbox "$1"
	of_pod RemovePodSandbox "$1"
}

clear_away() {
	cri ListPodSandbox | jq -r '.items[]?.id' | while read -r pod; do stop_pod "$pod"; done
}

answers() { cri Status | jq -e '.status.conditions | all(.status)'; }

begin() {
	mkdir -p "$work/net" "$work/logs"
	cat >"$work/net/10-pods.conflist" <<-END
		{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "pods0", "isGateway": true,
		"ipam": {"type": "host-local", "dataDir": "$work/addresses", "ranges": [[{"subnet": "10.77.0.0/24"}]],
		"routes": [{"dst": "0.0.0.0/0"}]}}]}
	END
	cat >"$work/config.toml" <<-END
		version = 3
		root = "$work/root"
		state = "$work/state"
		[grpc]
		address = "$CONTAINERD_ADDRESS"
		[plugins."io.containerd.cri.v1.images".pinned_images]
		sandbox = "$pause"
		[plugins."io.containerd.cri.v1.runtime".cni]
		bin_dirs = ["/usr/lib/cni"]
		conf_dir = "$work/net"
		[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.caisson]
		runtime_type = "io.containerd.caisson.v2"
		[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.caisson-sandbox]
		runtime_type = "io.containerd.caisson.v2"
		sandboxer = "shim"
	END
	busybox_tree "$work/tree"
	oci_archive "$work/tree" $image >"$work/image.tar"
	oci_archive "$work/tree" $pause sleep 1000000 >"$work/pause.tar"
	start_containerd
	trap 'stop_containerd TERM' EXIT
	containerd --version
	ctr images import "$work/image.tar" >/dev/null
	ctr images import "$work/pause.tar" >/dev/null
}

# two_in_a_pod HANDLER: they share machine and network, and end on their own.
two_in_a_pod() {
	local pod address web one
	pod=$(run_pod shop "$1")
	equal SANDBOX_READY "$(pod_state "$pod")"
	address=$(of_pod PodSandboxStatus "$pod" | jq -r .status.network.ip)
	web=$(add "$pod" shop web httpd -f -p 80 -h /etc)
	one=$(add "$pod" shop one sh -c 'echo said; exec sleep 1000')
	contains caisson "$(in_it "$one" uname -r)"
	equal "$(boot_of "$web")" "$(boot_of "$one")"
	equal host-of-shop "$(in_it "$one" hostname)"
	equal $'2000\t3000' "$(in_it "$one" cat /proc/sys/net/ipv4/ip_local_port_range)"
	equal 67108864 "$(in_it "$one" cat /sys/fs/cgroup/memory.max)"
	contains "$address/24" "$(in_it "$one" ip address show eth0)"
	soon busybox wget -q -O "$work/page" "http://$address/passwd"
	contains root "$(in_it "$one" wget -q -O - http://127.0.0.1/passwd)"
	contains ' stdout F said' "$(cat "$work/logs/one.log")"
	fails_with 3 in_it "$one" sh -c 'exit 3'
	cri UpdateContainerResources "$(jq -cn --arg id "$one" '{containerId: $id, linux: {memoryLimitInBytes: "50331648"}}')"
	equal 50331648 "$(in_it "$one" cat /sys/fs/cgroup/memory.max)"
	of_container ContainerStats "$one" | jq -e '.stats.memory.workingSetBytes.value | tonumber > 0'
	stop_container "$one"
	state_is "$web" CONTAINER_RUNNING
	one=$(add "$pod" shop one sh -c 'exit 5')
	soon state_is "$one" CONTAINER_EXITED
	equal 5 "$(of_container ContainerStatus "$one" | jq -r .status.exitCode)"
	equal SANDBOX_READY "$(pod_state "$pod")"
	stop_pod "$pod"
}

# containerd_restarts HANDLER: the pod is there as before.
containerd_restarts() {
	local pod one
	pod=$(run_pod stays "$1")
	one=$(add "$pod" stays one sleep 1000)
	stop_containerd KILL
	start_containerd
	equal SANDBOX_READY "$(pod_state "$pod")"
	equal up "$(in_it "$one" echo up)"
	stop_container "$one"
	one=$(add "$pod" stays two sleep 1000)
	equal up "$(in_it "$one" echo up)"
	stop_pod "$pod"
}

# bad_input HANDLER: the causes are named.
bad_input() {
	local pod host_network
	pod=$(run_pod bad "$1")
	said=$(fails_with 1 add "$pod" bad one nosuch)
	contains 'executable file not found' "$said"
	stop_pod "$pod"
	# containerd 2.1 itself crashes over a sandbox on the host's network.
	if [[ $1 = caisson-sandbox && $(containerd --version) = *' 2.1.'* ]]; then return; fi
	host_network=$(pod_config host | jq -c '.linux.securityContext.namespaceOptions.network = "NODE"')
	said=$(fails_with 1 cri RunPodSandbox "$(jq -cn --argjson config "$host_network" --arg handler "$1" \
		'{config: $config, runtimeHandler: $handler}')")
	contains "the host's network" "$said"
	clear_away
}

begin
essential 'two containers of a pod' two_in_a_pod caisson
scenario 'two containers of a pod without a pause image' two_in_a_pod caisson-sandbox
scenario 'containerd is killed under a pod' containerd_restarts caisson
scenario 'containerd is killed under a sandbox' containerd_restarts caisson-sandbox
scenario 'bad input' bad_input caisson
scenario 'bad input to a sandbox' bad_input caisson-sandbox
verdict
