# shellcheck shell=bash
# Sourced. A private apt: packages of any Debian suite are fetched and unpacked
# into a folder, and nothing is installed on the machine. Archive address,
# proxies and keys are the machine's own.

# The address of the Debian archive that the machine itself uses. Asked of apt,
# so every form of sources list works; needs no downloaded package lists.
debian_mirror() {
    local codename
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    apt-get update --print-uris |
        sed -nE "s#^'(.*)/dists/(${codename:-sid}|stable|testing|unstable|sid)/.*#\1#p" | head -n 1
}

# The suite of the machine, for tools that must fit its perl and its apt.
machine_suite() {
    sed -n 's/^VERSION_CODENAME=//p' /etc/os-release
}

# How the machine reaches archives (proxies, time checks), for an apt that does
# not read the machine's configuration.
machine_acquire_settings() {
    apt-config dump | grep -E '^Acquire::(http|https|ftp|Check-|ForceIPv|Retries)'
    echo 'Acquire::Languages "none";'
}

# Of the machine's own archive and suite, reached as the machine reaches it.
build_debian_rootfs() {
    machine_acquire_settings >"$1/apt.conf"
    unshare --mount --propagation private mmdebstrap --quiet --mode=root --variant=minbase \
        --aptopt="$1/apt.conf" "$(machine_suite)" "$1/rootfs" "$(debian_mirror)" >&2
}

# debian_rootfs: the path of a Debian of few packages, built once. Not to be written to.
# Needs cache.sh.
debian_rootfs() {
    local target
    target=$(cache_root)/demo/debian-$(machine_suite)
    build_once "$target" build_debian_rootfs
    echo "$target/rootfs"
}

# private_apt FOLDER SUITE: prepares FOLDER/apt.conf and reads the package
# lists. Afterwards `in_private_apt FOLDER apt-get ...` works on that suite as if
# nothing were installed.
private_apt() {
    local folder=$1 suite=$2 mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    mirror=$(debian_mirror)
    if [ -z "$mirror" ]; then
        echo "outer-vm: no Debian archive in the apt sources of this machine" >&2
        return 1
    fi
    mkdir -p "$folder/lists/partial" "$folder/archives/partial"
    : >"$folder/status"
    echo "deb [signed-by=$keyring] $mirror $suite main" >"$folder/sources.list"
    cat >"$folder/apt.conf" <<CONF
Dir::State "$folder";
Dir::State::lists "$folder/lists";
Dir::State::status "$folder/status";
Dir::Cache "$folder";
Dir::Cache::archives "$folder/archives";
Dir::Etc::sourcelist "$folder/sources.list";
Dir::Etc::sourceparts "-";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "$(id -un)";
APT::Install-Recommends "false";
CONF
    in_private_apt "$folder" apt-get -qq update
}

in_private_apt() {
    local folder=$1
    shift
    APT_CONFIG=$folder/apt.conf "$@"
}

# unpack_packages FOLDER INTO PACKAGE...: the packages with everything they
# depend on, unpacked into INTO.
unpack_packages() {
    local folder=$1 into=$2 package
    shift 2
    in_private_apt "$folder" apt-get -qq --yes --download-only install "$@" >&2
    for package in "$folder"/archives/*.deb; do
        dpkg -x "$package" "$into"
    done
}
