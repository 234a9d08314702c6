#!/bin/sh
# The program `outer-vm` with everything it needs: makes sure that there is a
# saved state, then hands over. `start` and `batch` get the state's folder.
#
# usage: run.sh start | exec | put | get | check | cpu | stop | batch ...
set -eu
here=$(dirname "$(readlink -f "$0")")
state=$("$here/warm.sh")
verb=${1:?usage: run.sh VERB ...}
shift
case $verb in
start | batch) exec "$state/bin/outer-vm" "$verb" --state "$state" "$@" ;;
*) exec "$state/bin/outer-vm" "$verb" "$@" ;;
esac
