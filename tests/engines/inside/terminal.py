"""Runs a shell script on a terminal of its own and prints what it shows; the exit
status is the script's. Needs no more of Python than Debian's python3-minimal."""

import os
import sys

pid, terminal = os.forkpty()
if pid == 0:
    os.execvp("sh", ["sh", "-c", sys.argv[1]])
while True:
    try:
        shown = os.read(terminal, 65536)
    except OSError:  # EIO: nobody has the terminal any more
        break
    if not shown:
        break
    os.write(1, shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
