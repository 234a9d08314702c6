//! The whole process against real KVM, with guests of a few instructions: how a
//! machine ends, and what its process may do meanwhile. Skipped without `/dev/kvm`.

#![cfg(test)]

mod owner;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use caisson_vmm::control::{Exit, Report, Request};
use vmm_sys_util::tempdir::TempDir;

use owner::{Machine, Wish};

/// `mov al, 0x5a; mov dx, 0x600; out dx, al`
const POWER_OFF: &[u8] = b"\xb0\x5a\x66\xba\x00\x06\xee\xf4";
/// `mov al, 0xfe; out 0x64, al`
const RESET: &[u8] = b"\xb0\xfe\xe6\x64\xf4";
/// `mov word [0x472], 0x1234`, then as `RESET`
const WARM_RESET: &[u8] = b"\x66\xc7\x05\x72\x04\x00\x00\x34\x12\xb0\xfe\xe6\x64\xf4";
/// `ud2`, without a table of handlers
const TRIPLE_FAULT: &[u8] = b"\x0f\x0b";
/// `jmp $`
const LOOP: &[u8] = b"\xeb\xfe";

const LOAD_ADDRESS: u32 = 0x10_0000;
const CODE_AT: usize = 256;

/// An ELF file with a PVH note whose kernel is `code`.
fn kernel(code: &[u8]) -> Vec<u8> {
    let mut image = vec![0; CODE_AT];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    let address = u64::from(LOAD_ADDRESS).to_le_bytes();
    let code_len = (code.len() as u64).to_le_bytes();
    put(0, b"\x7fELF\x02\x01\x01");
    put(24, &address);
    put(32, &[64]);
    put(54, &[56, 0, 2]);
    // One loaded segment ...
    put(64, &[1]);
    put(64 + 8, &(CODE_AT as u64).to_le_bytes());
    put(64 + 24, &address);
    put(64 + 32, &code_len);
    put(64 + 40, &code_len);
    // ... and one note: XEN_ELFNOTE_PHYS32_ENTRY.
    put(120, &[4]);
    put(120 + 8, &[176]);
    put(120 + 32, &[20]);
    put(176, &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
    put(188, b"Xen\0");
    put(192, &LOAD_ADDRESS.to_le_bytes());
    image.extend_from_slice(code);
    image
}

/// Starts a machine whose kernel image is `image`; `None` without KVM, which
/// continuous integration must have.
fn start(image: &[u8]) -> Option<Machine> {
    if let Err(error) = owner::open("/dev/kvm".as_ref()) {
        assert!(std::env::var_os("CI").is_none(), "needs KVM: {error}");
        eprintln!("SKIPPED, needs KVM: {error}");
        return None;
    }
    let directory = TempDir::new().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.as_path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let machine = owner::start(&Wish {
        vmm: PathBuf::from(env!("CARGO_BIN_EXE_caisson-vmm")),
        kernel: file("kernel", image),
        initramfs: file("initramfs", b"070701"),
        mem_mib: 48,
        vcpus: 2,
        cmdline: String::new(),
        fs: None,
        disk: None,
    });
    Some(machine.unwrap())
}

/// How a machine with this code ends; `None` without KVM.
fn end_of(code: &[u8]) -> Option<Exit> {
    let mut machine = start(&kernel(code))?;
    assert_eq!(machine.report().unwrap(), Some(Report::Running));
    let exit = last_report(&machine);
    assert!(machine.child.wait().unwrap().success());
    let mut console = String::new();
    machine.console.read_to_string(&mut console).unwrap();
    assert_eq!(console, "");
    Some(exit)
}

fn last_report(machine: &Machine) -> Exit {
    match machine.report().unwrap() {
        Some(Report::Exit { reason }) => reason,
        other => panic!("not an exit: {other:?}"),
    }
}

#[test]
fn every_end_of_a_guest_is_told_apart() {
    let ends = [
        (POWER_OFF, Exit::PowerOff),
        (RESET, Exit::Reboot),
        (WARM_RESET, Exit::Panic),
        (TRIPLE_FAULT, Exit::TripleFault),
    ];
    for (code, expected) in ends {
        if let Some(exit) = end_of(code) {
            assert_eq!(exit, expected);
        }
    }
}

#[test]
fn a_damaged_kernel_is_an_error_with_its_cause() {
    let Some(mut machine) = start(b"\x7fELF, almost") else {
        return;
    };
    let Exit::Error { message } = last_report(&machine) else {
        panic!("ran");
    };
    assert!(
        message.starts_with("load the guest: load the kernel"),
        "{message}"
    );
    assert!(!machine.child.wait().unwrap().success());
}

#[test]
fn the_owner_can_stop_a_machine() {
    let Some(mut machine) = start(&kernel(LOOP)) else {
        return;
    };
    assert_eq!(machine.report().unwrap(), Some(Report::Running));
    owner::ask(&machine.control, &Request::Stop, None).unwrap();
    assert_eq!(last_report(&machine), Exit::Stopped);
    assert!(machine.child.wait().unwrap().success());
}

#[test]
fn a_machine_does_not_outlive_its_owner() {
    let Some(machine) = start(&kernel(LOOP)) else {
        return;
    };
    assert_eq!(machine.report().unwrap(), Some(Report::Running));
    let Machine {
        mut child, control, ..
    } = machine;
    drop(control);
    child.wait().unwrap();
}

#[test]
fn the_running_process_has_no_rights() {
    let Some(mut machine) = start(&kernel(LOOP)) else {
        return;
    };
    assert_eq!(machine.report().unwrap(), Some(Report::Running));
    let process = PathBuf::from(format!("/proc/{}", machine.child.id()));
    for thread in fs::read_dir(process.join("task")).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        for line in [
            "Seccomp:\t2",
            "NoNewPrivs:\t1",
            "CapEff:\t0000000000000000",
            "CapPrm:\t0000000000000000",
            "CapBnd:\t0000000000000000",
        ] {
            assert!(status.contains(line), "{line} is not in\n{status}");
        }
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            // Not the kernel's user 0.
            assert!(!status.contains("Uid:\t0"), "{status}");
            assert!(!status.contains("Gid:\t0"), "{status}");
        }
    }
    for namespace in ["user", "mnt", "net", "ipc", "uts"] {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{namespace}")).unwrap();
        let pid = machine.child.id().to_string();
        assert_ne!(of(&pid), of("self"), "{namespace}");
    }
    assert_eq!(fs::read_dir(process.join("root")).unwrap().count(), 0);
    machine.child.kill().unwrap();
    machine.child.wait().unwrap();
}

#[test]
fn the_running_process_has_only_descriptors_it_needs() {
    let Some(mut machine) = start(&kernel(LOOP)) else {
        return;
    };
    assert_eq!(machine.report().unwrap(), Some(Report::Running));
    let directory = format!("/proc/{}/fd", machine.child.id());
    let kinds: BTreeSet<_> = fs::read_dir(directory)
        .unwrap()
        .map(Result::unwrap)
        // Standard streams are whatever the test was given.
        .filter(|entry| {
            !["0", "1", "2"]
                .iter()
                .any(|number| entry.file_name() == *number)
        })
        .map(|entry| fs::read_link(entry.path()).unwrap())
        .map(|target| {
            target
                .to_string_lossy()
                .split(':')
                .take(2)
                .collect::<Vec<_>>()
                .join(":")
        })
        .collect();
    for kind in &kinds {
        let known = ["anon_inode", "socket", "pipe", "/dev/", "/memfd"];
        assert!(
            known.iter().any(|prefix| kind.starts_with(prefix)),
            "{kind}"
        );
    }
    machine.child.kill().unwrap();
    machine.child.wait().unwrap();
}
