#!/usr/bin/env bash
# Runs a command with a Debian tree as its root, in namespaces of its own, so
# that nothing it mounts or leaves running outlives it.
#
# usage: enter.sh TREE [NAME=FOLDER...] -- COMMAND...
#
# Each FOLDER appears as /opt/NAME. The root is a mount point of its own, as
# pivot_root wants it of every runtime. Cgroups are the machine's.
set -euo pipefail

if [ "$1" != --inside ]; then
	exec unshare --mount --pid --fork --kill-child --propagation private "$0" --inside "$@"
fi
shift
tree=$1
shift
mount --bind "$tree" "$tree"
cd "$tree"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs opt
while [ "$1" != -- ]; do
	mkdir "opt/${1%%=*}"
	mount --bind "${1#*=}" "opt/${1%%=*}"
	shift
done
shift
pivot_root . mnt
umount --lazy /mnt
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux "$@"
