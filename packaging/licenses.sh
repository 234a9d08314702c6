#!/usr/bin/env bash
# Prints the Rust crates that are linked into caisson's programs, with the license of
# each, and the license texts that their sources hold.
#
# Owns the form of that list. The crates are those that cargo would build for the
# programs, without those that only build or test them. Equal texts are printed once.
set -euo pipefail

source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
programs=(caisson caisson-vmm caisson-fs caisson-jail caisson-agent caisson-shim)
target=x86_64-unknown-linux-gnu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$source"

# NAME VERSION of each crate; a name with a path behind it is one of caisson's own.
linked_crates() {
	local program
	for program in "${programs[@]}"; do
		cargo tree --locked --target "$target" -p "$program" --edges normal,no-proc-macro \
			--prefix none --format '{p}'
	done | grep -v ' (/' | sed 's/ (\*)$//; s/ (proc-macro)$//; s/ v/ /' | sort -u
}

# NAME VERSION LICENSE DIRECTORY of every crate that cargo knows, with tabs.
known_crates() {
	cargo metadata --locked --format-version 1 --filter-platform "$target" |
		jq -r '.packages[] | [.name + " " + .version, .license // "see its texts",
			(.manifest_path | rtrimstr("/Cargo.toml"))] | @tsv' | sort
}

# Leaves each different text in $work/text, by its hash, and the crates it belongs to.
collect_texts() {
	local crate directory file hash
	mkdir "$work/text" "$work/crates"
	while IFS=$'\t' read -r crate _ directory; do
		while IFS= read -r file; do
			hash=$(sha256sum <"$file" | cut -c 1-16)
			cp "$file" "$work/text/$hash"
			echo "$crate" >>"$work/crates/$hash"
		done < <(find "$directory" -maxdepth 1 -type f -iregex '.*/\(licen[cs]e\|copying\|copyright\|notice\|unlicense\)[^/]*' | sort)
	done <"$work/linked"
}

# Hashes in the order of the crates, each once.
texts_in_order() {
	grep -H '' "$work"/crates/* | sed 's#.*/\([0-9a-f]*\):\(.*\)#\2\t\1#' | sort | cut -f 2 | awk '!seen[$0]++'
}

print_texts() {
	local hash
	while IFS= read -r hash; do
		printf '\n%s\n\nText of:\n' '----------------------------------------------------------------------'
		sort -u "$work/crates/$hash" | sed 's/^/  /'
		echo
		cat "$work/text/$hash"
	done < <(texts_in_order)
}

linked_crates >"$work/names"
join -t $'\t' "$work/names" <(known_crates) >"$work/linked"
[ "$(wc -l <"$work/names")" = "$(wc -l <"$work/linked")" ] || {
	echo 'licenses.sh: cargo tree and cargo metadata name different crates' >&2
	exit 1
}
echo 'Rust crates that are linked into the programs of caisson: name, version, license.'
echo
awk -F '\t' '{printf "  %-40s %s\n", $1, $2}' "$work/linked"
echo
echo 'Texts follow as they lie in the sources of the crates; some have none there.'
echo "The Rust standard library ($(rustc --version | cut -d ' ' -f 2)) is linked too: MIT OR Apache-2.0."
collect_texts
print_texts
