//! Device nodes beside /dev/kvm: what VMs use of the host's kernel, and what they don't.

use std::io::ErrorKind;

use crate::doctor::host::words_of;
use crate::doctor::{Finding, HostView};

const TUN: &str = "/dev/net/tun";
const VHOST_NET: &str = "/dev/vhost-net";

pub(super) fn tun(host: &HostView) -> Finding {
    match host.open(TUN) {
        Ok(_) => Finding::ok(format!("{TUN} opens")),
        Err(err) if err.kind() == ErrorKind::NotFound => Finding::fail(
            format!("{TUN} does not exist: no container with a network starts"),
            if host.is_container() {
                "start this container with `--device /dev/net/tun`"
            } else {
                "modprobe tun"
            },
        ),
        Err(err) => Finding::fail(
            format!(
                "{TUN}: {reason}: no container with a network starts",
                reason = words_of(&err)
            ),
            format!(
                "`modprobe tun && chmod 666 {TUN}`; where it stays so, a device rule of this cgroup refuses it"
            ),
        ),
    }
}

pub(super) fn vhost_net(host: &HostView) -> Finding {
    if !host.installation.config.vhost_net {
        return Finding::ok("not used: `vhost_net` is off in the configuration");
    }
    match host.open(VHOST_NET) {
        Ok(_) => Finding::ok(format!("{VHOST_NET} opens, as `vhost_net = true` needs it")),
        Err(err) => Finding::fail(
            format!(
                "`vhost_net = true`, and {VHOST_NET}: {reason}: no container with a network starts",
                reason = words_of(&err)
            ),
            "modprobe vhost_net, or take `vhost_net` out of the configuration",
        ),
    }
}

pub(super) fn vhost_vsock(_: &HostView) -> Finding {
    Finding::ok("not used: caisson has a vsock device of its own, and needs no /dev/vhost-vsock")
}

pub(super) fn userfaultfd(_: &HostView) -> Finding {
    Finding::ok("not used: no VM is restored from a snapshot")
}
