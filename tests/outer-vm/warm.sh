#!/bin/bash
# Boots the test host once, warms it up, saves it, and prints the folder of the
# saved state, from which `bin/outer-vm start` restores any number of clones.
# Builds or fetches whatever that needs; costs nothing when it is there.
#
# The state is a plain one: no engine's daemon runs in it. A state with engines
# would be a second recipe beside this one, with its own key.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR
. "$here/cache.sh"

image=$("$here/image.sh")
qemu=$("$here/qemu.sh")

build_programs() {
    local into=$1 triple=x86_64-unknown-linux-gnu
    local target=${CARGO_TARGET_DIR:-$here/commandd/target}
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --locked --release \
        --manifest-path "$here/commandd/Cargo.toml" --target "$triple" --target-dir "$target"
    mkdir "$into"
    cp "$target/$triple/release/commandd" "$target/$triple/release/outer-vm" "$into"
}

pack_initramfs() {
    local root=$1/initramfs state=$1 folder
    for folder in bin dev root outer-vm; do mkdir -p "$root/$folder"; done
    cp "$image/busybox" "$root/bin/busybox"
    cp -r "$image/modules" "$root/modules"
    cp "$here/l1/initramfs-init" "$root/init"
    cp "$here/l1/init" "$here/l1/batch" "$state/bin/commandd" "$root/outer-vm"
    (cd "$root" && find . | "$image/busybox" cpio -o -H newc 2>/dev/null) >"$state/initrd"
    rm -r "$root"
}

# Runs in the test host. Every module, program and library that most tests need
# gets into the page cache, and lazily made kernel state exists.
warm_up_script() {
    cat <<'SCRIPT'
set -eu
bundle=/tmp/warm
mkdir -p $bundle/rootfs/bin
cp /bin/busybox $bundle/rootfs/bin/
ln -s busybox $bundle/rootfs/bin/true
cd $bundle
runc spec
sed -i 's/"terminal": true/"terminal": false/; s/"sh"/"true"/' config.json
runc run warm-runc
crun run warm-crun
test -c /dev/kvm
tar -C / -cf /dev/null run/outer-vm
cd /
rm -r $bundle
sync
SCRIPT
}

build_state() {
    local state=$1 host
    ln -s "../$(basename "$image")" "$state/image"
    ln -s "$qemu" "$state/qemu"
    build_programs "$state/bin"
    pack_initramfs "$state"
    (cd "$state" && qemu/qemu-img create -q -f qcow2 -F raw -b image/rootfs.ext4 disk.qcow2)
    host=$("$state/bin/outer-vm" start --prepare --state "$state" --owner $$)
    warm_up_script | "$state/bin/outer-vm" exec -i --timeout-ms 600000 "$host" -- sh
    echo "outer-vm: warm after $("$state/bin/outer-vm" cpu "$host") ms of CPU time" >&2
    "$state/bin/outer-vm" check "$host"
    "$state/bin/outer-vm" save "$host" "$state/ram"
    "$state/bin/outer-vm" stop "$host"
    chmod 0444 "$state/disk.qcow2" "$state/ram"
}

recipe=$(key_of warm.sh l1 commandd/src commandd/Cargo.toml commandd/Cargo.lock)
key=$(echo "$recipe ${image##*/} $("$qemu/qemu-system-x86_64" --version)" | sha256sum | cut -c 1-16)
target=$(cache_root)/outer-vm/state-$key
build_once "$target" build_state
echo "$target"
