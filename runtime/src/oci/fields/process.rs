//! Rows of `process`, which hold for `exec` as well.

use super::*;

const WINDOWS_ONLY: &str = "it is for Windows containers";

#[rustfmt::skip] // One line for each field, so that the table can be read as one.
pub(crate) const FIELDS: &[Field] = &[
    applied("process.terminal", HOST_AND_GUEST, ""),
    applied("process.consoleSize", GUEST, ""),
    applied("process.cwd", GUEST, "made if it is missing"),
    applied("process.env", GUEST, "HOME is added where it is missing"),
    applied("process.args", GUEST, "found with the container's own PATH"),
    refused("process.commandLine", WINDOWS_ONLY),
    applied("process.user.uid", GUEST, ""),
    applied("process.user.gid", GUEST, ""),
    applied("process.user.umask", GUEST, ""),
    applied("process.user.additionalGids", GUEST, ""),
    refused("process.user.username", WINDOWS_ONLY),
    applied("process.capabilities", GUEST, "names that are unknown are left out, and the log says so"),
    applied("process.rlimits[].type", GUEST, ""),
    applied("process.rlimits[].soft", GUEST, ""),
    applied("process.rlimits[].hard", GUEST, ""),
    applied("process.noNewPrivileges", GUEST, ""),
    applied("process.oomScoreAdj", GUEST, "among the processes of the guest"),
    ignored("process.apparmorProfile", "the guest's kernel has no AppArmor; the machine is the boundary"),
    refused("process.selinuxLabel", NO_LABELS),
    applied("process.scheduler", GUEST, "on the machine's processors"),
    applied("process.ioPriority", GUEST, ""),
    applied("process.execCPUAffinity", GUEST, "numbers of the machine's processors; for exec only"),
];
