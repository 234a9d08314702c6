# shellcheck shell=bash
# Docker and containerd, with busybox as an image, for the benchmarks. Sourced
# inside the test host after scene.sh. Owns the daemons; measures nothing.

# shellcheck source-path=SCRIPTDIR source=../engines/inside/image.sh
. "$bench/image.sh"
export PATH=$dist/bin:$PATH
bench_image=localhost/bench:1

# One containerd for both. The daemons outlive the script.
engines_start() {
	mkdir -p "$scene"
	containerd >"$scene/containerd.log" 2>&1 &
	until ctr version >/dev/null 2>&1; do sleep 0.5; done
	caisson setup docker >/dev/null
	dockerd --containerd /run/containerd/containerd.sock >"$scene/dockerd.log" 2>&1 &
	until docker version >/dev/null 2>&1; do sleep 0.5; done
	busybox_tree "$scene/image"
	tar -C "$scene/image" -c . | docker import - bench >/dev/null
	oci_archive "$scene/image" "$bench_image" | ctr images import - >/dev/null
}

# engine_runtime WAY PEER: what the peer is called there. Docker knows caisson by
# the shim's name and, on the way docker-path, by the command line's.
engine_runtime() {
	case $1-$2 in
	docker-path-caisson) echo caisson ;;
	docker*-runc) echo runc ;;
	ctr-runc) echo io.containerd.runc.v2 ;;
	*) echo io.containerd.caisson.v2 ;;
	esac
}

# engine_run WAY PEER: a container that does nothing, from start to end.
engine_run() {
	local name
	name=$(engine_runtime "$1" "$2")
	case $1 in
	docker-bridge) docker run --rm --runtime "$name" bench true ;;
	docker*) docker run --rm --network none --runtime "$name" bench true ;;
	ctr) ctr run --rm --runtime "$name" "$bench_image" once true ;;
	esac
}

engine_idle() { # engine_idle PEER: one container of containerd that stays
	ctr run --detach --runtime "$(engine_runtime ctr "$1")" "$bench_image" idle sleep 100000
}

engine_end() {
	ctr tasks delete --force idle >/dev/null 2>&1 || true
	ctr containers delete idle
}
