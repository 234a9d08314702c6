#!/bin/sh
# Installs caisson from the unpacked tarball that this script lies in, or removes what
# it has installed.
#
# Owns the files below PREFIX that it has listed in PREFIX/share/caisson/installed, and
# the directories that it has made for them. Touches no container, no configuration of
# caisson or of an engine, and no file of others. Needs a POSIX shell and the tools of
# coreutils or busybox; no network.
set -eu
umask 022

usage='usage: install.sh [--prefix DIR] [--destdir DIR] [--uninstall]'
here=$(cd "$(dirname "$0")" && pwd)
prefix=/usr/local
destdir=
action=install

die() {
	echo "install.sh: $1" >&2
	exit 1
}

help() {
	cat <<HELP
$usage

  --prefix DIR    install below DIR, an absolute path (/usr/local)
  --destdir DIR   put everything below DIR, as if that were the root directory
  --uninstall     remove what an installation with the same DIRs has made
HELP
}

# first_line COMMAND...: runs it; if it fails, the first line of what it printed is the
# error.
first_line() {
	said=$("$@" 2>&1) || die "$(echo "$said" | head -n 1)"
}

# What is installed, by path below the prefix.
payload() {
	(cd "$here" && find bin libexec share -type f | sort)
}

check_payload() {
	for file in VERSION bin/caisson libexec/caisson/caisson-vmm share/caisson/vmlinux; do
		[ -f "$here/$file" ] || die "$here/$file is missing: unpack the tarball again"
	done
}

check_machine() {
	[ "$(uname -s) $(uname -m)" = 'Linux x86_64' ] ||
		die "these programs are for Linux on x86_64, and this is $(uname -s) on $(uname -m)"
}

# A file that is there already has to be one of a former installation.
check_conflicts() {
	payload | while read -r file; do
		if [ -e "$destdir$prefix/$file" ] && ! grep -qxF "$prefix/$file" "$list" 2>/dev/null; then
			die "$destdir$prefix/$file exists, and is not of an installation by install.sh"
		fi
	done
}

# make_directory DIR: with its parents; each new one is listed, with a slash at its end.
make_directory() {
	[ ! -d "$destdir$1" ] || return 0
	case $1 in /*/*) make_directory "${1%/*}" ;; esac
	first_line mkdir "$destdir$1"
	if [ -f "$list" ]; then
		echo "$1/" >>"$list"
	else
		new_directories="$new_directories$1/
"
	fi
}

# install_file FILE: a program that runs keeps its own file.
install_file() {
	mode=644
	case $1 in bin/* | libexec/*) mode=755 ;; esac
	make_directory "$prefix/$(dirname "$1")"
	target=$destdir$prefix/$1
	first_line cp "$here/$1" "$target.new"
	first_line chmod "$mode" "$target.new"
	first_line mv -f "$target.new" "$target"
}

# The list is complete before the first file is there, so that an installation which is
# interrupted can be removed.
install_all() {
	check_machine
	check_payload
	check_conflicts
	new_directories=
	make_directory "$prefix/share/caisson"
	if [ -f "$list" ]; then
		grep -v '/$' "$list" >"$list.old" || true
	else
		first_line touch "$list.old" "$list"
	fi
	printf '%s' "$new_directories" >>"$list"
	payload | sed "s#^#$prefix/#" >>"$list"
	for file in $(payload); do
		install_file "$file"
	done
	# Of a former version, and no longer part of this one.
	while read -r path; do
		[ -f "$here${path#"$prefix"}" ] || rm -f "$destdir$path"
	done <"$list.old"
	{
		grep '/$' "$list" || true
		payload | sed "s#^#$prefix/#"
	} | sort -u >"$list.new"
	mv "$list.new" "$list"
	rm -f "$list.old"
	next_steps
}

next_steps() {
	echo "caisson $(cat "$here/VERSION") is installed in $destdir$prefix."
	[ -z "$destdir" ] || return 0
	if [ ! -e /dev/kvm ]; then
		echo 'There is no /dev/kvm here: containers need hardware virtualization.'
	fi
	cat <<NEXT
Next, as root, for an engine that is to use it (docker, podman or containerd):
  $prefix/bin/caisson setup docker
To remove caisson again, from this directory:
  ./install.sh --prefix $prefix --uninstall
NEXT
}

# Children come after their parents in the list, so it is read from its end.
uninstall_all() {
	[ -f "$list" ] || die "no installation by install.sh in $destdir$prefix"
	paths=$(sort -ru "$list")
	for path in $paths; do
		case $path in
		*/ | */../*) ;;
		"$prefix"/*) first_line rm -f "$destdir$path" "$destdir$path.new" ;;
		esac
	done
	rm -f "$list" "$list.old" "$list.new"
	for path in $paths; do
		case $path in
		*/../*) ;;
		# One that holds something of others by now stays.
		*/) rmdir "$destdir$path" 2>/dev/null || true ;;
		esac
	done
	echo "caisson is removed from $destdir$prefix. /etc/caisson and the configuration of engines are as they were."
}

while [ $# -gt 0 ]; do
	case $1 in
	--prefix | --destdir)
		[ -n "${2:-}" ] || die "$1 needs a directory"
		if [ "$1" = --prefix ]; then prefix=$2; else destdir=$2; fi
		shift
		;;
	--prefix=?*) prefix=${1#*=} ;;
	--destdir=?*) destdir=${1#*=} ;;
	--uninstall) action=uninstall ;;
	--help | -h)
		help
		exit
		;;
	*) die "unknown argument $1; $usage" ;;
	esac
	shift
done
[ "$prefix" = / ] || prefix=${prefix%/}
case $prefix$destdir in *[!A-Za-z0-9/._+@:~-]*) die 'a DIR may hold only letters, digits and /._+@:~-' ;; esac
case $prefix/ in
*/../* | */./* | *//*) die "--prefix is a plain absolute path, not $prefix" ;;
/*) ;;
*) die "--prefix is an absolute path, not $prefix" ;;
esac
if [ -n "$destdir" ]; then
	[ -d "$destdir" ] || die "--destdir $destdir is not a directory"
	destdir=$(cd "$destdir" && pwd)
	[ "$destdir" != / ] || destdir=
fi
list=$destdir$prefix/share/caisson/installed
"${action}_all"
