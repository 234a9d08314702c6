# shellcheck shell=bash
# What every benchmark starts: one busybox tree, run by each peer. Sourced inside
# the test host. Owns starting, waiting and ending; measures nothing.
#
# Peers: caisson, runc, crun; qemu (microvm + virtiofsd) and krun (libkrun), both
# with caisson's kernel; krunfw, libkrun with its own kernel.

bench=${bench:-$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")}
dist=${dist:-$bench/dist}
scene=${scene:-/var/lib/bench} # on a disk, not on a tmpfs
kvm_stat=/sys/kernel/debug/kvm
declare -A words=(
	[true]=/bin/true
	[idle]='/workload idle'
	[read]='/workload read'
	[untar]='/workload untar'
)

# present PEERS...: those that can be started here.
present() {
	local peer
	for peer in "$@"; do
		case $peer in
		krun*) [ ! -x "$bench/peer/krun" ] || echo "$peer" ;;
		*) echo "$peer" ;;
		esac
	done
}

# scene_make: the tree, the bundles, QEMU's initramfs.
scene_make() {
	mkdir -p "$scene"/{tree/bin,tree/out,initramfs/bin,initramfs/mnt}
	mkdir -p "$scene"/tree/{proc,sys,dev,tmp,input}
	local applet name
	cp "$(command -v busybox)" "$scene/tree/bin/busybox"
	for applet in sh true sleep tar dd mkdir mktemp ts awk; do
		ln -sf busybox "$scene/tree/bin/$applet"
	done
	install -m 0755 "$bench/workload" "$scene/tree/workload"
	install -m 0755 "$bench/qemu-init" "$scene/initramfs/init"
	cp "$scene/tree/bin/busybox" "$scene/initramfs/bin/"
	(cd "$scene/initramfs" && find . | busybox cpio -o -H newc >"$scene/initramfs.cpio" 2>/dev/null)
	for name in "${!words[@]}"; do
		bundle "$name"
	done
}

bundle() { # bundle NAME: runs words[NAME]
	local dir=$scene/bundles/$1
	mkdir -p "$dir"
	rm -f "$dir/config.json"
	"$dist/bin/caisson" spec --bundle "$dir"
	jq --arg tree "$scene/tree" '.process.args = ($words / " ") | .process.terminal = false
		| .root = {path: $tree, readonly: false}' --arg words "${words[$1]}" "$dir/config.json" >"$dir/new"
	mv "$dir/new" "$dir/config.json"
}

runtime() { # runtime PEER WORDS...
	case $1 in
	caisson) "$dist/bin/caisson" "${@:2}" ;;
	*) "$@" ;;
	esac
}

# run_once PEER BUNDLE [NAME]: from start to end.
run_once() {
	local name=${3:-once-$2}
	case $1 in
	qemu) qemu_run "$2" "$name" ;;
	krun) krun_run "$dist/share/caisson/vmlinux" "$2" ;;
	krunfw) krun_run - "$2" ;;
	*) runtime "$1" run --bundle "$scene/bundles/$2" "$name" </dev/null ;;
	esac
}

krun_run() { # krun_run KERNEL BUNDLE
	# shellcheck disable=SC2086 # several words
	"$bench/peer/krun" "$1" "$scene/tree" ${words[$2]} </dev/null
}

# qemu_run BUNDLE NAME: the same command in QEMU's microvm, until it ends.
qemu_run() {
	local socket=$scene/$2.sock
	rm -f "$socket"
	/usr/libexec/virtiofsd --socket-path="$socket" --shared-dir="$scene/tree" --sandbox=none \
		--cache=auto --log-level=off >/dev/null 2>&1 &
	local server=$!
	while [ ! -S "$socket" ]; do sleep 0.01; done
	qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -cpu host \
		-machine microvm,accel=kvm,acpi=off,pic=off,pit=off,rtc=off,isa-serial=off,x-option-roms=off,auto-kernel-cmdline=off,memory-backend=ram \
		-object memory-backend-memfd,id=ram,size=512M,share=on -m 512 \
		-kernel "$dist/share/caisson/vmlinux" -initrd "$scene/initramfs.cpio" \
		-append "reboot=t panic=-1 quiet virtio_mmio.device=512@0xfeb00e00:12 \"bench_run=${words[$1]}\"" \
		-chardev "socket,id=fs,path=$socket" -device vhost-user-fs-device,chardev=fs,tag=bench
	wait "$server"
}

idling() { # how many idle programs have told that they run
	{ compgen -G "$scene/tree/out/up.*" || true; } | wc -l
}

# start_idle PEER NAME: one container that sleeps; returns when its program runs.
start_idle() {
	local already left=1200
	already=$(idling)
	case $1 in
	qemu | krun*) run_once "$1" idle "$2" >/dev/null 2>&1 & ;;
	*) runtime "$1" run --detach --bundle "$scene/bundles/idle" "$2" </dev/null >/dev/null 2>&1 ;;
	esac
	while [ "$(idling)" -le "$already" ] && [ $((left -= 1)) -gt 0 ]; do sleep 0.05; done
	[ "$left" -gt 0 ]
}

# stop_idle PEER: all of them.
stop_idle() {
	local name
	case $1 in
	qemu | krun*) kill_machines ;;
	*)
		for name in $(runtime "$1" list -q); do
			runtime "$1" kill "$name" KILL || true
			wait_stopped "$1" "$name"
			runtime "$1" delete --force "$name" 2>/dev/null || true
		done
		;;
	esac
	rm -f "$scene"/tree/out/up.*
	sleep 2
}

wait_stopped() { # wait_stopped PEER NAME
	local left=50
	while [ $((left -= 1)) -gt 0 ] && runtime "$1" state "$2" 2>/dev/null | jq -e '.status != "stopped"' >/dev/null; do
		sleep 0.1
	done
}

# kill_machines: whatever owns a virtual machine; its folder is PID-DESCRIPTOR.
kill_machines() {
	local folder pid
	for folder in "$kvm_stat"/[0-9]*-*; do
		pid=${folder##*/}
		kill -KILL "${pid%%-*}" 2>/dev/null || true
	done
}

# clear_away PEER: what a start that failed has left behind.
clear_away() {
	kill_machines
	pkill -KILL -x virtiofsd || true
	case $1 in
	caisson | runc | crun) stop_idle "$1" ;;
	esac
}

# surely FUNCTION PEER WORDS...: with new attempts, because on a loaded machine a
# start can run into the runtime's limit for it.
surely() {
	local left=3
	until "$@"; do
		[ $((left -= 1)) -gt 0 ] || return 1
		echo "once more: $*"
		clear_away "$2" >/dev/null 2>&1
	done
}

# sample NAME UNIT PEER VALUE: one line for the table.
sample() {
	printf 'sample\t%s\t%s\t%s\t%s\n' "$@"
}
