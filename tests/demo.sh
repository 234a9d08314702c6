#!/usr/bin/env bash
# The first thing a newcomer sees: containers that print from inside their own VM.
#
# Owns nothing that outlives it: bundles and state lie in a temporary folder.
# Needs no registry: one root file system is busybox, the other Debian's minbase.
# Where KVM does not work it runs all the same, slowly: it allows emulation, which
# caisson does not take by itself.
set -euo pipefail

dist=${1:?usage: demo.sh DIST}
caisson=$dist/bin/caisson
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=outer-vm/cache.sh
. "$here/outer-vm/cache.sh"
# shellcheck source=outer-vm/apt.sh
. "$here/outer-vm/apt.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# bundle NAME ROOTFS COMMAND...: a bundle without a terminal that runs COMMAND.
bundle() {
	local dir=$work/$1 rootfs=$2
	shift 2
	mkdir -p "$dir"
	"$caisson" spec --bundle "$dir"
	jq --arg rootfs "$rootfs" '.process.args = $ARGS.positional | .process.terminal = false | .root.path = $rootfs' \
		"$dir/config.json" --args -- "$@" >"$dir/new.json"
	mv "$dir/new.json" "$dir/config.json"
}

# run NAME: its output, its exit code.
run() {
	"$caisson" --root "$work/state" run --bundle "$work/$1" "$1" </dev/null
}

busybox_rootfs() {
	mkdir -p "$work/busybox/bin"
	cp "$(command -v busybox)" "$work/busybox/bin/"
	"$work/busybox/bin/busybox" --list | grep -vx busybox | while read -r applet; do
		ln -sf busybox "$work/busybox/bin/$applet"
	done
}

echo 'allow_emulation = true' >"$work/config.toml"
export CAISSON_CONFIG=$work/config.toml
echo "This demo sets \`allow_emulation = true\`: where KVM does not work, QEMU emulates the"
echo "machines, slowly and as a weaker barrier, with a warning for each. caisson's default is"
echo 'to run nothing then.'
echo
busybox_rootfs
echo "host kernel:      $(uname -sr)"
bundle uname "$work/busybox" uname -a
said=$(run uname)
echo "container kernel: $said"

bundle seven "$work/busybox" sh -c 'exit 7'
code=0
run seven || code=$?
echo "exit code of a container that ends with 7: $code"
[ "$code" -eq 7 ]

debian=$(debian_rootfs)
bundle apt "$debian" apt-get --version
said=$(run apt)
echo "in Debian:        ${said%%$'\n'*}"
bundle pipeline "$debian" sh -c 'seq 1 1000 | perl -ne "\$s += \$_; END { print qq(\$s\n) }"'
said=$(run pipeline)
echo "sum of 1 to 1000, by seq and perl in Debian: $said"

cat <<END

Next, as root:
  make install                           installs it below /usr/local
  caisson doctor                         shows what this host has, and what it lacks
  caisson sandbox -- uname -r            runs a command of this host in a VM
  caisson setup docker                   or podman, or containerd: enters it there
Each container above was: caisson spec, then caisson run --bundle DIR NAME.
END
