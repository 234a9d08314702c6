#!/bin/sh
# initramfs.sh AGENT OUT [MODULES]: makes the guest's initramfs, an uncompressed newc archive
# with AGENT as /init and, for the stock kernel, the folder MODULES (stock.sh) as /modules.
# /dev/console is not in it: a kernel without a built-in initramfs makes it by itself. But it
# can't be opened while the console's driver is a module, and a Rust program that starts
# without descriptors needs /dev/null to go on.
# The same input gives the same bytes.
set -eu
program=initramfs.sh
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=cache.sh
. "$here/cache.sh"

[ $# -eq 2 ] || [ $# -eq 3 ] || die "usage: initramfs.sh AGENT OUT [MODULES]"
need cpio:cpio
[ -f "$1" ] || die "no agent at $1"
[ -z "${3:-}" ] || [ -f "$3/order" ] || die "no module list at $3/order"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/root"
# Mode by chmod, not install -m: the caller's umask must not matter.
cp "$1" "$work/root/init"
[ -z "${3:-}" ] || cp -r "$3" "$work/root/modules"
find "$work/root" -type d -exec chmod 755 {} +
find "$work/root" -type f -exec chmod 644 {} +
chmod 755 "$work/root/init"
find "$work/root" -exec touch -h -d @0 {} +

# newc_entry NAME MODE MAJOR MINOR: a header without contents, so that nodes need no root here.
newc_entry() {
    printf '070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x' \
        1 "$2" 0 0 1 0 0 0 0 "$3" "$4" $((${#1} + 1)) 0
    printf '%s\0' "$1"
    pad=$(((4 - (110 + ${#1} + 1) % 4) % 4))
    head -c $pad /dev/zero
}

{
    newc_entry dev/null $((020666)) 1 3
    newc_entry 'TRAILER!!!' 0 0 0
    cd "$work/root" && find . | LC_ALL=C sort |
        cpio --quiet --create --format=newc --owner=+0:+0 --reproducible
} >"$2.new.$$"
mv "$2.new.$$" "$2"
