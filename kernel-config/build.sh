#!/bin/sh
# Builds the guest kernel from the fragments beside this script and prints the path of the
# uncompressed vmlinux in the cache; prints it at once when it is there already.
#   build.sh               build if needed, print the path
#   build.sh --print-path  print the path, or fail when it is not built
#   build.sh --config      only resolve the config, check it, print its path
# Beside vmlinux: vmlinux.relocs (where absolute addresses stand, for a loader that moves the
# image) and config. Source: Debian's package below, or the unpacked tree KERNEL_SRC names.
# Installs nothing. An interrupted build goes on where it stopped; KERNEL_KEEP=1 keeps source
# and objects after a finished one too, so that the next change of an option costs less.
set -eu
program=build.sh
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=cache.sh
. "$here/cache.sh"

package=linux-source-6.12
# Part of the cache key: raise it when the steps below would make another image of the same
# source, options and compiler.
recipe=1

store=$cache_root/kernel
work=$store/work
mode=${1:-build}

# merged_config: the fragments without comments, sorted, so that remarks do not change the key.
merged_config() {
    sed 's/[[:space:]]*#.*//' "$here"/fragments/*.config | grep . | LC_ALL=C sort
}

# source_version: names the exact source.
source_version() {
    if [ -n "${KERNEL_SRC:-}" ]; then
        # A named tree may change under us: every file counts, by size and time.
        (cd "$KERNEL_SRC" && find . -name .git -prune -o -type f -printf '%p %s %T@\n') |
            LC_ALL=C sort | hash_text
    else
        package_version "$package"
    fi
}

cache_key() {
    {
        echo "$recipe $version"
        merged_config
        gcc --version | head -n 1
        ld --version | head -n 1
    } | hash_text
}

# unpack_source: the package's tree in $work/linux, unless it is there from an earlier run.
unpack_source() {
    [ "$(cat "$work/version" 2>/dev/null)" != "$version" ] || return 0
    rm -rf "$work"
    mkdir -p "$work/linux"
    fetch "$package" "$work/package"
    tar -xf "$work/package/usr/src/$package.tar.xz" -C "$work/linux" --strip-components=1
    rm -r "$work/package"
    echo "$version" >"$work/version"
}

# run_make ARGUMENT...: make in the build folder. Stamps are fixed and, for the package, the
# build folder lies in the tree: paths in the objects are relative, so results are the same
# anywhere and ccache finds them again.
run_make() {
    compiler=gcc
    ! command -v ccache >/dev/null || compiler="ccache gcc"
    make -s -C "${KERNEL_SRC:-$work/linux}" "O=$build" "CC=$compiler" "-j$(nproc)" \
        KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_VERSION=1 \
        KBUILD_BUILD_USER=caisson KBUILD_BUILD_HOST=caisson "$@" >&2
}

# check_config: kconfig drops a line without a word when something it depends on is missing.
check_config() {
    lost=$(merged_config | while IFS= read -r line; do
        case $line in
        *=n) ! grep -q "^${line%n}" "$build/.config" || echo "$line" ;;
        *) grep -qxF "$line" "$build/.config" || echo "$line" ;;
        esac
    done)
    [ -z "$lost" ] || die "lines that did not survive kconfig: $(echo "$lost" | tr '\n' ' ')"
}

case $mode in build | --print-path | --config) ;; *) die "unknown argument $mode" ;; esac
need gcc:gcc ld:binutils flock:util-linux
version=$(source_version)
[ -n "$version" ] || die "apt knows no $package; run apt-get update or set KERNEL_SRC"
image=$store/$(cache_key)/vmlinux

if [ -f "$image" ] && [ "$mode" != --config ]; then
    echo "$image"
    exit
fi
[ "$mode" != --print-path ] || die "not built yet: $image"

need make:make flex:flex bison:bison bc:bc xz:xz-utils strip:binutils /usr/include/gelf.h:libelf-dev
take_lock "$store"
if [ -f "$image" ] && [ "$mode" = build ]; then
    echo "$image"
    exit
fi

if [ -n "${KERNEL_SRC:-}" ]; then
    build=$work/build
else
    unpack_source
    build=$work/linux/build
fi
mkdir -p "$build"
merged_config >"$work/merged"
run_make "KCONFIG_ALLCONFIG=$work/merged" allnoconfig
check_config
if [ "$mode" = --config ]; then
    echo "$build/.config"
    exit
fi

run_make vmlinux
result=$(mktemp -d "$store/new.XXXXXX")
chmod 755 "$result"
strip -s -o "$result/vmlinux" "$build/vmlinux"
cp "$build/arch/x86/boot/compressed/vmlinux.relocs" "$result/vmlinux.relocs"
cp "$build/.config" "$result/config"
# One rename makes the whole result appear; a leftover without a vmlinux is none.
rm -rf "${image%/*}"
mv "$result" "${image%/*}"
[ -n "${KERNEL_KEEP:-}" ] || rm -rf "$work"
echo "$image"
