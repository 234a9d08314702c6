#!/bin/sh
# Takes the distribution's cloud kernel apart: uncompressed vmlinux (ELF) and the modules a
# guest needs, in load order, both in the cache. Prints the folder:
#   vmlinux          ELF image with PVH note
#   modules/*.ko     uncompressed
#   modules/order    file names, one per line, dependencies first
# Needs no kernel source and installs nothing. Which machine can boot it: README.md.
set -eu
program=stock.sh
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=cache.sh
. "$here/cache.sh"

meta=linux-image-cloud-amd64
# virtio_mmio first of all; ext4 and 8250 are built in.
wanted="virtio_mmio virtio_console virtio_rng virtio_balloon virtio_mem virtio_blk virtio_net
vmw_vsock_virtio_transport virtiofs overlay erofs loop binfmt_misc"

need readelf:binutils apt-get:apt dpkg:dpkg flock:util-linux od:coreutils

work=
cleanup() { [ -z "$work" ] || rm -rf "$work"; }
trap cleanup EXIT

# The versioned package behind the meta package, or nothing when apt's lists lack it.
kernel_package() {
    apt-cache show --no-all-versions "$meta" 2>/dev/null |
        sed -n 's/^Depends: *\(linux-image-[^ ,]*\).*/\1/p'
}

# field OFFSET SIZE FILE: little-endian number in the real-mode header of a bzImage.
field() {
    od -An -j "$1" -N "$2" -t "u$2" "$3" | tr -d ' '
}

# decompressor FILE: the command for the magic bytes FILE begins with.
decompressor() {
    case $(od -An -N 4 -t x1 "$1" | tr -d ' ') in
    02214c18) need lz4:lz4 && echo 'lz4 -dcq' ;;
    28b52ffd) need zstd:zstd && echo 'zstd -dcq' ;;
    fd377a58) need xz:xz-utils && echo 'xz -dcq --single-stream' ;;
    1f8b*) echo 'gzip -dcq' ;;
    *) die "unknown compression of the kernel image" ;;
    esac
}

# extract_vmlinux BZIMAGE OUT. The boot protocol's payload fields (2.08 and later) say where
# the compressed ELF is; decompressors complain of the size word behind it, so the result is
# judged, not the exit status.
extract_vmlinux() {
    start=$((($(field 497 1 "$1") + 1) * 512 + $(field 584 4 "$1")))
    tail -c "+$((start + 1))" "$1" | head -c "$(field 588 4 "$1")" >"$work/payload"
    unpack=$(decompressor "$work/payload")
    $unpack "$work/payload" >"$2" 2>/dev/null || :
    readelf -n "$2" 2>/dev/null | grep -q 'Unknown note type: (0x00000012)' ||
        die "the extracted image has no PVH note"
}

# depends KO: names of the modules KO says it needs.
depends() {
    readelf -p .modinfo "$1" | sed -n 's/.*] *depends=//p' | tr ',-' ' _'
}

# index_modules: writes lines "name path" for all modules of the tree; "-" in names becomes "_",
# as the kernel has it.
index_modules() {
    find "$tree" -name '*.ko' | awk -F/ '{
        name = $NF; sub(/\.ko$/, "", name); gsub(/-/, "_", name); print name, $0
    }' >"$work/index"
}

# add_module NAME: appends NAME after all it depends on. A name without a file is built in.
add_module() {
    source=$(awk -v name="$1" '$1 == name { print $2 }' "$work/index")
    [ -n "$source" ] || return 0
    ! grep -qx "$1.ko" "$out/modules/order" || return 0
    cp "$source" "$out/modules/$1.ko"
    for dependency in $(depends "$source"); do
        add_module "$dependency"
    done
    echo "$1.ko" >>"$out/modules/order"
}

package=$(kernel_package)
[ -n "$package" ] || die "apt knows no $meta; run apt-get update"
version=$(package_version "$package")
key=$package-$version-$(cat "$here/stock.sh" "$here/cache.sh" | hash_text)
store=$cache_root/stock
take_lock "$store"
if [ -d "$store/$key" ]; then
    echo "$store/$key"
    exit
fi

work=$(mktemp -d "$store/work.XXXXXX")
fetch "$package" "$work/tree"
out=$work/out
tree=$work/tree/lib/modules
[ -d "$tree" ] || tree=$work/tree/usr/lib/modules
mkdir -p "$out/modules"
: >"$out/modules/order"
extract_vmlinux "$work"/tree/boot/vmlinuz-* "$out/vmlinux"
find "$tree" -name '*.ko.xz' -exec xz -d {} +
index_modules
for module in $wanted; do
    add_module "$module"
done
mv "$out" "$store/$key"
echo "$store/$key"
