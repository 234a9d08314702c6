# shellcheck shell=sh
# What both kernel scripts share: the cache folder, its lock, and one-line errors. Sourced, not
# run. Knows nothing about what is stored.

# The cache of the project: CAISSON_CACHE, else the XDG cache folder.
# shellcheck disable=SC2034 # used by the sourcing script
cache_root=${CAISSON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/caisson}

# die TEXT: one line on stderr, exit 1. The caller sets $program.
die() {
    # shellcheck disable=SC2154
    printf '%s: %s\n' "$program" "$1" >&2
    exit 1
}

# need PAIR...: each PAIR is command:package or /file:package. Names every missing package at
# once.
need() {
    packages=
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || [ -f "${pair%%:*}" ] ||
            packages="$packages ${pair#*:}"
    done
    [ -z "$packages" ] || die "missing tools; install: apt-get install$packages"
}

# package_version PACKAGE: the version apt would download, or nothing.
package_version() {
    apt-cache show --no-all-versions "$1" 2>/dev/null | sed -n 's/^Version: //p'
}

# hash_text: sha256 of stdin, shortened to what names a folder.
hash_text() {
    sha256sum | cut -c1-16
}

# take_lock FOLDER: waits for the only writer of FOLDER. Held on descriptor 9 until exit.
take_lock() {
    mkdir -p "$1"
    exec 9>"$1/lock"
    flock 9
}

# fetch PACKAGE FOLDER: downloads PACKAGE with the machine's own apt configuration and
# unpacks it to FOLDER. Installs nothing.
fetch() {
    mkdir -p "$2.deb" "$2"
    (cd "$2.deb" && apt-get -q download "$1") >"$2.deb/log" 2>&1 ||
        die "cannot download $1: $(grep '^E:' "$2.deb/log" | head -n 1); try apt-get update"
    dpkg -x "$2.deb"/*.deb "$2"
    rm -r "$2.deb"
}
