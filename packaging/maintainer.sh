#!/usr/bin/env bash
# Prints who a package names as its maintainer: what Debian's own tools take from the
# environment, else the project without a mailbox.
set -euo pipefail
echo "${DEBFULLNAME:-caisson maintainers} <${DEBEMAIL:-maintainers@caisson.invalid}>"
