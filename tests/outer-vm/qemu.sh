#!/bin/bash
# Makes sure that a QEMU of at least version 10 exists and prints the folder
# that holds `qemu-system-x86_64` and `qemu-img`. Older ones panic an emulated
# Linux now and then and cannot save a machine to a mapped-ram file.
# The distribution's is taken when it is new enough; else the one of SUITE
# (default: sid) is unpacked into the cache and run with its own libraries.
#
# usage: qemu.sh [--suite SUITE]      with --suite never the distribution's
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR
. "$here/cache.sh"
# shellcheck source-path=SCRIPTDIR
. "$here/apt.sh"

minimum_major=10
suite=
if [ "${1:-}" = --suite ]; then suite=$2; fi

system_qemu_is_new_enough() {
    local major
    command -v qemu-img >/dev/null || return 1
    major=$(qemu-system-x86_64 --version 2>/dev/null | sed -nE '1s/.*version ([0-9]+)\..*/\1/p')
    [ "${major:-0}" -ge "$minimum_major" ]
}

# A program of the unpacked tree is started through that tree's loader; its own
# absolute path to the loader would find the machine's older C library.
write_launcher() {
    local root=$1 program=$2 arguments=$3
    cat >"$root/bin/$program" <<LAUNCHER
#!/bin/sh
tree=\$(dirname "\$(dirname "\$(readlink -f "\$0")")")
libraries=\$tree/usr/lib/x86_64-linux-gnu
exec "\$libraries/ld-linux-x86-64.so.2" --library-path "\$libraries" "\$tree/usr/bin/$program" $arguments "\$@"
LAUNCHER
    chmod 0755 "$root/bin/$program"
}

# shellcheck disable=SC2016 # the launcher expands $tree, not this script
fetch_qemu() {
    local root=$1
    private_apt "$root/apt" "${suite:-sid}"
    unpack_packages "$root/apt" "$root" qemu-system-x86 qemu-utils
    rm -rf "$root/apt"
    mkdir "$root/bin"
    write_launcher "$root" qemu-system-x86_64 '-L "$tree/usr/share/qemu" -L "$tree/usr/share/seabios"'
    write_launcher "$root" qemu-img ''
    "$root/bin/qemu-system-x86_64" --version >&2
}

if [ -z "$suite" ] && system_qemu_is_new_enough; then
    dirname "$(command -v qemu-system-x86_64)"
    exit
fi
target=$(cache_root)/qemu/${suite:-sid}-$(key_of qemu.sh apt.sh)
build_once "$target" fetch_qemu
echo "$target/bin"
