//! A device that appears after boot: the monitor of machines fills an empty
//! slot, and a guest that knows nothing but sysfs binds it.
//!
//! Plays below the command line, with the monitor's own protocol: no verb plugs
//! disks yet. Owns its guest (a busybox script as PID 1), no kernel.

#[path = "../../runtime/vmm/tests/owner/mod.rs"]
pub(crate) mod owner;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use caisson_tests::{Machine, Scene, stories};
use caisson_vmm::control::{Exit, Report, Request};

use owner::Wish;

stories![a_disk_that_is_plugged_in_after_boot_is_read_and_written.only(Machine::Kvm)];

/// Asks for a disk, binds the slot as soon as there is a device in it, reads a
/// line, writes another, and switches the machine off.
const GUEST: &str = r#"#!/busybox sh
/busybox mkdir -p /proc /sys /dev
/busybox mount -t sysfs none /sys
/busybox mount -t devtmpfs none /dev
echo before: $(/busybox ls /sys/block)
echo plug!
until [ -e /dev/vda ]; do
	for slot in /sys/bus/platform/devices/virtio-mmio.*; do
		[ -e $slot/driver ] || echo ${slot##*/} >/sys/bus/platform/drivers/virtio-mmio/bind
	done 2>/dev/null
	/busybox sleep 0.1
done
echo serial: $(/busybox cat /sys/block/vda/serial)
echo read: $(/busybox dd if=/dev/vda bs=512 count=1 2>/dev/null)
echo 'from the guest' | /busybox dd of=/dev/vda bs=512 seek=1 conv=sync,fsync 2>/dev/null
printf '\x5a' | /busybox dd of=/dev/port bs=1 seek=1536
"#;
const SECTOR: usize = 512;

fn a_disk_that_is_plugged_in_after_boot_is_read_and_written(scene: &Scene) {
    let disk = scene.path("disk");
    fs::write(&disk, sectors("from the host")).unwrap();
    let machine = owner::start(&Wish {
        vmm: installed(scene, "libexec/caisson/caisson-vmm"),
        kernel: installed(scene, "share/caisson/vmlinux"),
        initramfs: initramfs(scene, GUEST),
        mem_mib: 128,
        vcpus: 1,
        cmdline: "console=hvc0 reboot=k,panic_warm panic=-1".to_owned(),
        fs: None,
        disk: None,
    });
    let mut machine = machine.unwrap();
    assert_eq!(machine.report().unwrap(), Some(Report::Running));

    let mut console = BufReader::new(machine.console.try_clone().unwrap()).lines();
    let mut next = |start: &str| {
        let line = console
            .by_ref()
            .map(Result::unwrap)
            .inspect(|line| scene.note(line))
            .find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("the guest's console ended before {start}"))
    };
    assert_eq!(next("before:").trim(), "before:");
    next("plug!");
    let request = Request::PlugBlock {
        read_only: false,
        serial: "plugged".to_owned(),
    };
    let file = owner::open(&disk).unwrap();
    owner::ask(&machine.control, &request, Some(&file)).unwrap();
    let answer = machine.report().unwrap();
    assert!(
        matches!(answer, Some(Report::Done { slot: Some(_) })),
        "{answer:?}"
    );
    assert_eq!(next("serial:").trim(), "serial: plugged");
    assert_eq!(next("read:").trim(), "read: from the host");

    let reason = Exit::PowerOff;
    assert_eq!(machine.report().unwrap(), Some(Report::Exit { reason }));
    assert!(machine.child.wait().unwrap().success());
    let written = fs::read(&disk).unwrap();
    assert!(written[SECTOR..].starts_with(b"from the guest\n"));
}

/// A small disk with one line in its first sector.
fn sectors(line: &str) -> Vec<u8> {
    let mut bytes = line.as_bytes().to_vec();
    bytes.push(b'\n');
    bytes.resize(SECTOR, b'\n');
    bytes.resize(64 * SECTOR, 0);
    bytes
}

/// Where a file of the installation is.
pub(crate) fn installed(scene: &Scene, path: &str) -> PathBuf {
    scene.settings.dist.join(path)
}

/// Packs busybox, and the script `guest` as PID 1, with busybox's own cpio.
pub(crate) fn initramfs(scene: &Scene, guest: &str) -> PathBuf {
    let (folder, archive) = (scene.path("guest"), scene.path("guest.cpio"));
    fs::create_dir(&folder).unwrap();
    fs::copy(&scene.settings.busybox, folder.join("busybox")).unwrap();
    let init = folder.join("init");
    fs::write(&init, guest).unwrap();
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    pack(&scene.settings.busybox, &folder, &archive);
    archive
}

fn pack(busybox: &Path, folder: &Path, archive: &Path) {
    let mut command = Command::new(busybox);
    command.args([
        "sh",
        "-c",
        r#"printf 'busybox\ninit\n' | "$0" cpio -o -H newc"#,
    ]);
    command.arg(busybox).current_dir(folder);
    let status = command.stdout(File::create(archive).unwrap()).status();
    assert!(status.unwrap().success());
}
