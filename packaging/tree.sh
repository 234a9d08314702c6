#!/usr/bin/env bash
# Lays out what every package of caisson installs, as the directory of a prefix.
#
# usage: tree.sh DIST TREE VERSION
#
# Owns names and places below the prefix; not owners, dates and compression of packages.
# The stock kernel of a DIST is left out. Man pages and completions are written by
# packaging/manual, from the definition of the command line.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=$here/..
dist=$1
tree=$2
version=$3
doc=$tree/share/doc/caisson
helpers=(caisson-vmm caisson-vsock caisson-fs caisson-jail caisson-pause)

programs() {
	install -D -m 0755 -t "$tree/bin" "$dist/bin/caisson" "$dist/bin/containerd-shim-caisson-v2"
	install -D -m 0755 -t "$tree/libexec/caisson" "${helpers[@]/#/$dist/libexec/caisson/}"
	install -D -m 0644 -t "$tree/share/caisson" "$dist/share/caisson/vmlinux" "$dist/share/caisson/initramfs.cpio"
}

manual() {
	cargo run --quiet --locked --manifest-path "$source/Cargo.toml" -p caisson --example manual -- \
		"$tree/share" "$(date -u -d "@$SOURCE_DATE_EPOCH" +%F)"
	find "$tree/share/man" -type f -exec gzip -9n {} +
}

documents() {
	install -D -m 0644 -t "$doc" "$source/README.md" "$source/SECURITY.md" "$here/config.toml.example"
	install -D -m 0644 -t "$doc/docs" "$source"/docs/*.md
	install -D -m 0644 -t "$doc/kernel-config" "$source"/kernel-config/{README.md,build.sh,cache.sh}
	install -D -m 0644 -t "$doc/kernel-config/fragments" "$source"/kernel-config/fragments/*.config
	"$here/licenses.sh" >"$doc/third-party.txt"
	gzip -9n "$doc/third-party.txt"
}

kernel_version() {
	grep -m 1 -aoE 'Linux version [0-9]+\.[0-9]+\.[0-9]+' "$tree/share/caisson/vmlinux" | head -n 1 | cut -d ' ' -f 3
}

# What is linked into the programs beside Rust crates, of Debian's packages.
static_libraries() {
	dpkg-query -W -f '${source:Package} ${source:Version}\n' libc6-dev libcap-ng-dev libseccomp-dev | sort -u
}

copyright() {
	local kernel libraries
	kernel=$(kernel_version)
	libraries=$(static_libraries | sed 's/^/  /')
	awk -v kernel="$kernel" -v libraries="$libraries" \
		'{gsub(/@KERNEL@/, kernel); gsub(/@LIBRARIES@/, libraries); print}' \
		"$here/copyright" >"$doc/copyright"
}

changelog() {
	{
		echo "caisson ($version) unstable; urgency=medium"
		echo
		echo '  * Built from the source tree: its history says what has changed.'
		echo
		echo " -- $("$here/maintainer.sh")  $(date -u -R -d "@$SOURCE_DATE_EPOCH")"
	} | gzip -9n >"$doc/changelog.gz"
}

programs
manual
documents
copyright
changelog
find "$tree" -type d -exec chmod 0755 {} +
find "$tree" -type f ! -perm -u+x -exec chmod 0644 {} +
