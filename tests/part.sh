#!/usr/bin/env bash
# Runs one part of the tests and prints how long it took.
#
# usage: part.sh NAME COMMAND [WORDS...]
#
# Ends with the command's status. Owns nothing of the tests.
set -uo pipefail
name=${1:?usage: part.sh NAME COMMAND [WORDS...]}
shift
begun=$(date +%s)
"$@"
status=$?
echo "part $name: $(($(date +%s) - begun)) s, status $status"
exit $status
