#!/bin/bash
# Builds the disk of the test host from Debian packages and prints the folder
# with `rootfs.ext4`, `vmlinuz`, and for its initramfs `modules/` and `busybox`.
# Holds nothing of ours: the init script and the command server come with the
# initramfs, so that changing them does not cost a new disk. Must run as root
# (package scripts run in the tree).
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR
. "$here/cache.sh"
# shellcheck source-path=SCRIPTDIR
. "$here/apt.sh"

suite=sid
disk_size=8G
# Needed before the root file system is mounted; the rest lies on the disk.
early_modules=(virtio_blk ext4)

# Prints the command that builds a tree: mmdebstrap of the machine, or one
# unpacked into FOLDER, which needs its companion mmtarfilter on PATH.
ensure_mmdebstrap() {
    local folder=$1
    if command -v mmdebstrap >/dev/null; then return; fi
    private_apt "$folder/apt" "$(machine_suite)"
    (cd "$folder" && in_private_apt "$folder/apt" apt-get -qq download mmdebstrap)
    dpkg -x "$folder"/mmdebstrap_*.deb "$folder"
    PATH=$folder/usr/bin:$PATH
}

# The mount namespace takes mmdebstrap's mounts of /dev, /proc and /sys away
# even after kill -9, before anything walks or deletes the tree.
build_tree() {
    local tree=$1 settings=$1.apt.conf include
    machine_acquire_settings >"$settings"
    include=$(grep -v -e '^#' -e '^$' "$here/packages.txt" | paste -sd,)
    unshare --mount --propagation private mmdebstrap --quiet --mode=root \
        --variant=essential --include="$include" \
        --aptopt='APT::Install-Recommends "false"' --aptopt="$settings" \
        --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        "$suite" "$tree" "$(debian_mirror)"
}

# Names of the packages with the files of the cloud kernel. Suites differ: all
# in linux-image, or split into linux-base, linux-binary and linux-modules.
kernel_packages() {
    local apt=$1 image
    image=$(in_private_apt "$apt" apt-cache depends linux-image-cloud-amd64 |
        sed -nE 's/^ *Depends: (linux-image-[0-9].*)$/\1/p')
    echo "$image"
    in_private_apt "$apt" apt-cache depends "$image" |
        sed -nE 's/^ *Depends: (linux-(base|binary|modules)-[0-9].*)$/\1/p'
}

# The kernel is unpacked and not installed: installing it would build Debian's
# initramfs, which we replace by a tiny one, and pull in its tools.
add_kernel() {
    local out=$1 tree=$2 work=$3 package version modules
    private_apt "$work/apt" "$suite"
    mkdir "$work/kernel"
    for package in $(kernel_packages "$work/apt"); do
        (cd "$work" && in_private_apt "$work/apt" apt-get -qq download "$package")
        dpkg -x "$work/$package"_*.deb "$work/kernel"
    done
    cp "$(find "$work/kernel" -name 'vmlinuz*' -type f)" "$out/vmlinuz"
    modules=$(find "$work/kernel" -path '*/lib/modules' -type d)
    version=$(ls "$modules")
    mv "$modules" "$tree/usr/lib/modules"
    chroot "$tree" depmod "$version"
    cp "$tree/usr/bin/busybox" "$out/busybox"
    extract_early_modules "$out" "$tree" "$version"
}

# Copies modules in load order, numbered and uncompressed (busybox's insmod
# does not unpack them).
extract_early_modules() {
    local out=$1 tree=$2 version=$3 module number=10
    mkdir "$out/modules"
    chroot "$tree" modprobe --all --set-version "$version" --show-depends "${early_modules[@]}" |
        awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
        while read -r module; do
            "$out/busybox" xzcat "$tree$module" >"$out/modules/$number-$(basename "$module" .xz)"
            number=$((number + 1))
        done
}

build_image() {
    local out=$1 work=$1/work
    mkdir "$work"
    ensure_mmdebstrap "$work"
    build_tree "$work/tree"
    add_kernel "$out" "$work/tree" "$work"
    rm -rf "$work"/tree/var/cache/apt/* "$work"/tree/var/lib/apt/lists/* "$work"/tree/etc/apt
    truncate -s "$disk_size" "$out/rootfs.ext4"
    mkfs.ext4 -q -L test-host -E lazy_itable_init=0,nodiscard -d "$work/tree" "$out/rootfs.ext4"
    rm -rf --one-file-system "$work"
}

if [ "$(id -u)" != 0 ]; then
    echo "outer-vm: the disk of the test host can be built by root only" >&2
    exit 1
fi
target=$(cache_root)/outer-vm/image-$(key_of image.sh apt.sh packages.txt)
build_once "$target" build_image
echo "$target"
