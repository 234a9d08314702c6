#!/usr/bin/env bash
# Runs a script as if a fresh Debian were this machine; what it changes is gone afterwards.
#
# usage: fresh-root.sh ROOTFS SCRIPT [WORDS...]
#
# Run in a mount and a PID namespace of its own. Owns the mounts: ROOTFS under a layer in
# memory, /dev without /dev/kvm, and this machine's root at /host, where SCRIPT is found
# too. A chroot wouldn't do: the kernel lets none make user namespaces.
set -euo pipefail

rootfs=$1
script=$2
shift 2
base=/mnt
mount -t tmpfs tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay -o "lowerdir=$rootfs,upperdir=$base/upper,workdir=$base/work" overlay "$base/root"
cd "$base/root"
mount -t proc proc proc
mount --rbind /sys sys
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs dev
for node in null zero full random urandom tty; do
	touch "dev/$node"
	mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mkdir host
pivot_root . host
exec chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
	DEBIAN_FRONTEND=noninteractive FILTER="${FILTER:-}" "/host$script" "${@/#//host}"
