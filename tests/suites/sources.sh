# shellcheck shell=bash
# Sourced. The suites of others and the programs they need: fetched, built once,
# and kept in the cache by the hash of this recipe. Nothing is installed on the
# machine, and nothing of the suites is kept in this tree.
#
# Each `*_folder` function prints the folder of one finished thing.

# shellcheck source=../outer-vm/cache.sh
. "$suites/../outer-vm/cache.sh"
# shellcheck source=../outer-vm/apt.sh
. "$suites/../outer-vm/apt.sh"

# The version of runc in Debian sid, which is the control: a suite tests its own
# program best.
runc_version=v1.3.6
# The newest state that the Go proxy has; the last release is of 2018.
runtime_tools_version=v0.9.1-0.20250303011046-260e151b8552
pjdfstest_version=0.2.2
fsx_version=0.3.2
# All the suites' Go code needs at most this.
oldest_go=1.23

tree_packages=bats,jq,gawk,runc,qemu-system-x86,busybox-static,procps,iproute2,mount,socat,xz-utils,gcc,libc6-dev
# Programs of runc's suite that need no C library.
runc_programs=(recvtty sd-helper fs-idmap pidfd-kill remap-rootfs)
# Programs of runtime-tools that runc passes under cgroup v1 and v2; what the
# others assert, runc fails too.
runtime_tools_programs=(config_updates_without_affect create default delete_resources hostname
	kill kill_no_effect killsig linux_masked_paths linux_ns_itype linux_ns_nopath linux_ns_path
	linux_ns_path_type linux_readonly_paths linux_rootfs_propagation linux_sysctl
	linux_uid_mappings pidfile process process_oom_score_adj process_user root_readonly_true state)

# recipe_key NAME...: 16 hex digits over functions and variables of this file, so
# that a change costs only what it concerns.
recipe_key() {
	local name
	for name in "$@"; do
		declare -f "$name" || declare -p "$name"
	done | sha256sum | cut -c 1-16
}

# debian_tree VARIANT PACKAGES OUT: Debian sid without documentation. The mount
# namespace takes mmdebstrap's mounts away even after kill -9.
debian_tree() {
	local settings
	settings=$(mktemp)
	machine_acquire_settings >"$settings"
	unshare --mount --propagation private mmdebstrap --quiet --mode=root \
		--variant="$1" ${2:+--include="$2"} \
		--aptopt='APT::Install-Recommends "false"' --aptopt="$settings" \
		--dpkgopt=force-unsafe-io \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/info/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		sid "$3" "$(debian_mirror)" >&2
	rm "$settings"
}

build_tree() {
	debian_tree essential "$tree_packages" "$1/root"
	rm -rf "$1"/root/var/cache/apt/* "$1"/root/var/lib/apt/lists/*
}

# A Debian sid with the control, bats and QEMU: where suites run on this machine.
tree_folder() {
	local target
	target=$(cache_root)/suites/tree-$(recipe_key build_tree debian_tree tree_packages)
	build_once "$target" build_tree
	echo "$target/root"
}

# What the test host lacks of that tree, as a folder of its own: bats, xz, and gawk
# with its libraries.
build_additions() {
	local tree packages
	tree=$(tree_folder)
	mkdir "$1/root"
	mapfile -t packages < <(chroot "$tree" dpkg-query --show --showformat='${Depends}' gawk |
		tr ',' '\n' | awk '$1 != "libc6" { print $1 }')
	chroot "$tree" dpkg -L bats xz-utils gawk "${packages[@]}" |
		while read -r path; do
			# Without documentation, which the tree lacks.
			if [ -f "$tree$path" ] || [ -L "$tree$path" ]; then echo ".$path"; fi
		done | tar -C "$tree" -cf - --no-recursion -T - | tar -C "$1/root" -xf -
}

additions_folder() {
	local target
	target=$(cache_root)/suites/additions-$(recipe_key build_additions tree_packages)
	build_once "$target" build_additions
	echo "$target/root"
}

go_is_new_enough() {
	command -v go >/dev/null &&
		printf 'go%s\n%s\n' "$oldest_go" "$(go env GOVERSION)" | sort --version-sort --check=quiet
}

# ensure_go FOLDER: puts a Go compiler on PATH, the machine's or sid's unpacked.
ensure_go() {
	if go_is_new_enough; then return; fi
	private_apt "$1/apt" sid
	unpack_packages "$1/apt" "$1/root" golang-go
	PATH=$(echo "$1"/root/usr/lib/go-*/bin):$PATH
}

# go_module FOLDER NAME@VERSION: a copy that can be built in, at FOLDER/source.
go_module() {
	local dir
	export GOPATH=$1/gopath GOFLAGS='-modcacherw -mod=mod' GOTOOLCHAIN=local CGO_ENABLED=0
	dir=$(go mod download -json "$2" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
	cp -r "$dir" "$1/source"
	chmod -R u+w "$1/source"
	rm -rf "$1/source/vendor"
}

build_runc_suite() {
	local work=$1/work testdata program
	mkdir "$work"
	ensure_go "$work/go"
	go_module "$work" "github.com/opencontainers/runc@$runc_version"
	for program in "${runc_programs[@]}"; do
		(cd "$work/source" && go build -o tests/cmd/_bin/ "./tests/cmd/$program" >&2)
	done
	testdata=$work/source/tests/integration/testdata
	busybox_image "$testdata/busybox-amd64.tar.xz"
	debian_tree essential '' "$work/debian.tar"
	xz -0 <"$work/debian.tar" >"$testdata/debian-amd64.tar.xz"
	chmod +x "$work"/source/tests/integration/*.sh
	mv "$work/source" "$1/suite"
	rm -rf "$work"
}

# busybox_image ARCHIVE: a root file system of one static program.
busybox_image() {
	local root=${1%/*}/busybox
	mkdir -p "$root"/{bin,etc,home,root,sbin,tmp,usr/bin,usr/sbin,var}
	cp "$(command -v busybox)" "$root/bin/busybox"
	"$root/bin/busybox" --list | grep -vx busybox | while read -r applet; do
		ln -s busybox "$root/bin/$applet"
	done
	printf '%s:x:%s:%s::/%s:/bin/sh\n' root 0 0 root daemon 1 1 '' nobody 65534 65534 '' >"$root/etc/passwd"
	printf '%s:x:%s:\n' root 0 daemon 1 nogroup 65534 >"$root/etc/group"
	tar -C "$root" -cJf "$1" .
	rm -r "$root"
}

runc_suite_folder() {
	local target
	target=$(cache_root)/suites/runc-$(recipe_key build_runc_suite busybox_image debian_tree go_module runc_version runc_programs)
	build_once "$target" build_runc_suite
	echo "$target/suite"
}

build_runtime_tools() {
	local work=$1/work program
	mkdir "$work" "$1/suite"
	ensure_go "$work/go"
	go_module "$work" "github.com/opencontainers/runtime-tools@$runtime_tools_version"
	(
		cd "$work/source"
		go build -o "$1/suite/" ./cmd/runtimetest >&2
		for program in "${runtime_tools_programs[@]}"; do
			go build -o "$1/suite/validation/" "./validation/$program" >&2
		done
		cp rootfs-amd64.tar.gz "$1/suite/"
	)
	rm -rf "$work"
}

runtime_tools_folder() {
	local target
	target=$(cache_root)/suites/runtime-tools-$(recipe_key build_runtime_tools go_module runtime_tools_version runtime_tools_programs)
	build_once "$target" build_runtime_tools
	echo "$target/suite"
}

# The file suites are Rust programs; static, so that they run in any root, and not
# optimised: they wait for files, and optimising takes minutes.
build_file_suites() {
	local triple=x86_64-unknown-linux-gnu
	RUSTFLAGS='-C target-feature=+crt-static' CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_STRIP=true \
		cargo install --debug --quiet --locked --target "$triple" --target-dir "$1/target" --root "$1" "pjdfstest@$pjdfstest_version" "fsx@$fsx_version" >&2
	rm -rf "$1/target"
}

file_suites_folder() {
	local target
	target=$(cache_root)/suites/files-$(recipe_key build_file_suites pjdfstest_version fsx_version)
	build_once "$target" build_file_suites
	echo "$target/bin"
}
