#!/usr/bin/env bash
# Prints a folder with programs built from the Go modules of their authors: newer
# than any of Debian's, or in no Debian at all.
#
# usage: built.sh cri | VERSION
#
# `cri` is the client of the Container Runtime Interface in cri/; VERSION, such as
# v2.4.2, is containerd and ctr.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
suites=$here/../suites
# shellcheck source=../suites/sources.sh
. "$suites/sources.sh"
wanted=${1:?usage: built.sh cri | VERSION}
# What containerd 2.4 and the client say in their go.mod.
oldest_go=1.26.6

go_settings() {
	ensure_go "$1/go"
	export GOFLAGS='-modcacherw -trimpath' GOTOOLCHAIN=local CGO_ENABLED=0
}

build_cri() {
	go_settings "$1"
	mkdir "$1/bin"
	(cd "$here/cri" && go build -o "$1/bin/cri" . >&2)
	rm -rf "$1/go"
}

build_containerd() {
	local module=github.com/containerd/containerd/v2
	go_settings "$1"
	GOBIN=$1/bin go install -ldflags "-s -w -X $module/version.Version=$wanted" \
		"$module/cmd/containerd@$wanted" "$module/cmd/ctr@$wanted" >&2
	rm -rf "$1/go"
}

case $wanted in
cri) build=build_cri key=$(key_of ../engines/cri)-$(recipe_key build_cri go_settings oldest_go) ;;
*) build=build_containerd key=$wanted-$(recipe_key build_containerd go_settings oldest_go) ;;
esac
target=$(cache_root)/engines/built-${wanted%%.*}-$key
build_once "$target" "$build"
echo "$target"
