//! What a guest says of members again and again is looked at once.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::process::log_tail::LogTail;
use crate::process::pidfd::Pidfd;
use crate::vm::agent::Agent;
use crate::vm::kill_escalation::KillEscalation;
use crate::vm::served_shares::Served;
use crate::vm::vsock_ports::{Token, VsockPorts};

/// A machine with one member, and the guest's end of its control connection, which
/// answers nothing after the first word.
fn machine_with(id: &str) -> (Arc<Containers>, UnixStream) {
    let (near, mut guest) = UnixStream::pair().unwrap();
    let (tell, _events) = mpsc::sync_channel(1);
    let agent =
        std::thread::spawn(move || Agent::connect(near, Token::random().unwrap(), tell).unwrap());
    let hello = [0, 0, 0, 4, 0, 0, 0, 3, 2, 0, 0x12, 2, 0x08, 2];
    await_call(&mut guest);
    guest.write_all(&hello).unwrap();
    let agent = agent.join().unwrap();
    let file_server = Pidfd::of(nix::unistd::getpid().as_raw()).unwrap();
    let access = GuestAccess {
        agent,
        streams: VsockPorts::new(Token::random().unwrap()),
        kill_escalation: KillEscalation::new(Vec::new()),
        console: LogTail::default(),
    };
    let shares = Shares::new(file_server, Served::default());
    let members = Containers::new(access.clone(), Arc::new(shares));
    let container: GuestContainer = serde_json::from_value(json!({
        "id": id, "spec": {}, "seccomp": null, "state": {}, "submounts": [], "root_overlay_mib": null,
        "notifies": false,
    }))
    .unwrap();
    let proxy = Holder::Proxy {
        pid: 0,
        connection: UnixStream::pair().unwrap().0.into(),
    };
    let service = ContainerService::new(&container, access, proxy);
    members.list().insert(id.to_owned(), service);
    (members, guest)
}

/// Takes the next call, whatever it is.
fn await_call(guest: &mut UnixStream) {
    let mut head = [0; 10];
    guest.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes(head[..4].try_into().unwrap());
    guest.read_exact(&mut vec![0; length as usize]).unwrap();
}

fn threads_called(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|found| found.trim() == name).count()
}

#[test]
fn an_end_that_is_told_again_and_again_is_dealt_with_once() {
    let (members, mut guest) = machine_with("member");
    let exited = Exited {
        container_id: "member".to_owned(),
        ..Default::default()
    };
    for _ in 0..1000 {
        members.exited(&exited);
    }
    members.exited(&Exited {
        container_id: "stranger".to_owned(),
        ..Default::default()
    });
    // It is asked to delete it.
    await_call(&mut guest);
    assert_eq!(threads_called("member end"), 1);
    assert!(members.ends().waiting.is_empty());
    // The answer that nobody gives any more is not waited for.
    drop(guest);
    let service = members.service("member");
    let removed = service.is_none_or(|service| service.is_removed_within(Duration::from_secs(60)));
    assert!(removed);
    assert!(members.service("member").is_none());
}

#[test]
fn a_kill_over_a_lost_connection_ends_the_machine_at_once() {
    let (members, guest) = machine_with("member");
    let service = members.service("member").unwrap();
    drop(guest);
    assert!(service.kill(nix::libc::SIGTERM, false).is_err());
    assert!(!members.vm.agent.is_back());
    assert_eq!(members.vm.kill_escalation.reason(), None);
    assert!(service.kill(nix::libc::SIGKILL, false).is_ok());
    let reason = members.vm.kill_escalation.reason();
    assert!(reason.is_some_and(|reason| reason.contains("was lost")));
}
