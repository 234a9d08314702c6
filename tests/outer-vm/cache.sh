# shellcheck shell=bash
# Sourced. Where built things are kept, how they are named, and how each is
# built once although several callers ask for it. Knows nothing of what is built.

cache_root() {
    printf '%s\n' "${CAISSON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/caisson}"
}

# key_of PATH...: 16 hex digits over the contents of files and, recursively, of
# folders. Names count relative to the folder of this script, so that two
# checkouts of the same recipe share one cache entry.
key_of() {
    (
        cd "$(dirname "${BASH_SOURCE[0]}")" || exit
        find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-16
    )
}

# build_once TARGET FUNCTION: leaves the folder TARGET complete or absent.
# FUNCTION gets an empty folder to fill, which is then renamed to TARGET.
# Descriptor 9 (the lock) is closed for FUNCTION: a process that it leaves
# running must not hold the lock.
build_once() {
    local target=$1 build=$2
    if [ -e "$target" ]; then
        touch "$target" # time of last use
        return
    fi
    mkdir -p "${target%/*}"
    (
        flock 9
        if [ -e "$target" ]; then exit 0; fi
        remove_unused "${target%-*}"
        rm -rf --one-file-system "$target.partial"
        mkdir "$target.partial"
        trap 'rm -rf --one-file-system "$target.partial"' EXIT
        "$build" "$target.partial" 9>&-
        mv "$target.partial" "$target"
    ) 9>"$target.lock"
}

# remove_unused PREFIX: earlier results of a recipe that nobody has asked for
# in two weeks; one is up to a gigabyte.
remove_unused() {
    find "${1%/*}" -maxdepth 1 -name "${1##*/}-*" -type d -mtime +14 -exec rm -rf --one-file-system {} +
}
