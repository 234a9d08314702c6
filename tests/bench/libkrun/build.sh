#!/usr/bin/env bash
# Builds the libkrun peer from the Rust registry and prints the folder with
# `krun` and `libkrun.so.1`. Two to four CPU-minutes once, then a cache look-up.
# libkrunfw, which holds libkrun's own kernel, is a package of the test host.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=../../outer-vm/cache.sh
. "$here/../../outer-vm/cache.sh"

# Not what the caller's environment says of caisson's own static programs.
build() {
	local out=$1
	env -u RUSTFLAGS -u CARGO_BUILD_TARGET -u CARGO_TARGET_DIR \
		cargo build --quiet --release --locked --package libkrun \
		--manifest-path "$here/Cargo.toml" --target-dir "$out/target" >&2
	cp "$out/target/release/libkrun.so" "$out/libkrun.so.1"
	cc -O2 -Wall -o "$out/krun" "$here/krun.c" "$out/libkrun.so.1" -Wl,-rpath,\$ORIGIN
	rm -r "$out/target"
}

target=$(cache_root)/libkrun/peer-$(key_of ../bench/libkrun)
build_once "$target" build
echo "$target"
