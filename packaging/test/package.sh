#!/usr/bin/env bash
# The life of the .deb on a Debian machine: installed, used, upgraded, removed, purged.
#
# usage: package.sh PACKAGES
#
# Run by fresh-root.sh. The scenarios build on each other. Containers run in emulated
# machines, by the QEMU of the machine at /host.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../../tests/engines/inside/scenario.sh
. "$here/../../tests/engines/inside/scenario.sh"
package=$(echo "$1"/caisson_*_amd64.deb)
version=$(dpkg-deb --field "$package" Version)
bundle=$work/bundle

# Processes that execute a program of the package, by pid.
processes() {
	local exe
	for exe in /proc/[0-9]*/exe; do
		case $(readlink "$exe" 2>/dev/null) in
		/usr/bin/caisson* | /usr/libexec/caisson/*) basename "$(dirname "$exe")" ;;
		esac
	done
}
leftovers() { processes; }
clear_away() {
	local pid
	for pid in $(processes); do
		kill -KILL "$pid" || true
	done
}

# Files of this machine but those of dpkg and of the tests.
files() {
	find / -xdev \( -path /var/lib/dpkg -o -path /var/log -o -path /tmp \) -prune -o -printf '%p %y %m %u %g\n' | sort
	find /run -mindepth 1
}

install_package() { dpkg --install "$1"; }

# container COMMAND: a bundle whose container runs it in busybox.
container() {
	rm -rf "$bundle"
	mkdir -p "$bundle/rootfs/bin"
	cp /host/bin/busybox "$bundle/rootfs/bin/sh"
	ln -s sh "$bundle/rootfs/bin/busybox"
	caisson spec --bundle "$bundle"
	sed -i -e 's/"terminal": true/"terminal": false/' -e "s#\"sh\"#\"sh\", \"-c\", \"$1\"#" "$bundle/config.json"
}

allow_emulation() {
	mkdir -p /etc/caisson
	printf 'allow_emulation = true\nqemu = "/host/usr/bin/qemu-system-x86_64"\n' >/etc/caisson/config.toml
}

installed() {
	install_package "$package"
	equal "$version" "$(caisson --version | sed -n 's/^caisson version //p')"
	contains "$version" "$(containerd-shim-caisson-v2 -v)"
	# All of it lies below /usr, and nothing else has changed.
	files >"$work/installed"
	equal '' "$(comm -3 "$work/before" "$work/installed" | sed 's/^\t//' | grep -v '^/usr/' || true)"
	equal '' "$(dpkg --verify caisson)"
}

documented() {
	local verb
	for verb in $(caisson --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p'); do
		[ "$verb" = help ] || zgrep -q '^\.SH NAME' "/usr/share/man/man8/caisson-$verb.8.gz"
	done
	zgrep -q 'caisson\\-run(8)' /usr/share/man/man8/caisson.8.gz
	zgrep -q allow_emulation /usr/share/man/man5/caisson-config.toml.5.gz
	bash -n /usr/share/bash-completion/completions/caisson
	[ -s /usr/share/zsh/vendor-completions/_caisson ]
	[ -s /usr/share/fish/vendor_completions.d/caisson.fish ]
	grep -q GPL-2 /usr/share/doc/caisson/copyright
	zgrep -q '^  clap ' /usr/share/doc/caisson/third-party.txt.gz
	[ -s /usr/share/doc/caisson/config.toml.example ]
}

refused_without_kvm() {
	container true
	contains allow_emulation "$(fails_with 1 caisson run --bundle "$bundle" c1)"
}

runs() {
	allow_emulation
	container 'busybox uname -r; exit 7'
	contains caisson "$(fails_with 7 caisson run --bundle "$bundle" c1)"
}

upgraded() {
	local root=$work/next next=$version.1
	dpkg-deb --raw-extract "$package" "$root"
	sed -i "s/^Version: .*/Version: $next/" "$root/DEBIAN/control"
	dpkg-deb --root-owner-group -Zgzip -z1 --build "$root" "$work/next.deb"
	container 'busybox sleep 1000'
	caisson run --detach --bundle "$bundle" c2
	install_package "$work/next.deb"
	equal "$next" "$(dpkg-query --show --showformat '${Version}' caisson)"
	grep -q allow_emulation /etc/caisson/config.toml
	# A container that was started before goes on, and obeys.
	contains caisson "$(caisson exec c2 busybox uname -r)"
	caisson delete --force c2
}

removed() {
	local said
	container 'busybox sleep 1000'
	caisson run --detach --bundle "$bundle" c3
	caisson setup docker
	caisson setup containerd
	said=$(dpkg --remove caisson 2>&1)
	contains 'containers still run' "$said"
	contains 'configuration of docker still names caisson' "$said"
	contains 'configuration of containerd still names caisson' "$said"
	equal 0 "$(grep -c 'of podman' <<<"$said" || true)"
	[ ! -e /usr/bin/caisson ]
	[ ! -e /usr/share/caisson ]
	[ -e /etc/caisson/config.toml ]
	grep -q caisson /etc/docker/daemon.json
	clear_away
}

purged() {
	rm -r /etc/docker /etc/containerd
	dpkg --purge caisson
	files >"$work/after"
	diff "$work/before" "$work/after"
}

purged_beside_others() {
	local said
	install_package "$package"
	allow_emulation
	echo 'of the administrator' >/etc/caisson/notes
	said=$(dpkg --purge caisson 2>&1)
	equal '' "$(grep warning <<<"$said" || true)"
	equal notes "$(ls /etc/caisson)"
}

files >"$work/before"
scenario 'it is installed without network, below /usr alone' installed
scenario 'man pages, completions and licenses are there' documented
scenario 'without KVM a container is refused, by name' refused_without_kvm
scenario 'a container runs in an emulated machine once that is allowed' runs
scenario 'an upgrade keeps configuration and running containers' upgraded
scenario 'a removal warns of containers and engines and keeps configuration' removed
scenario 'a purge leaves nothing' purged
scenario "a purge leaves an administrator's own files" purged_beside_others
verdict
