//! Each fault of a host, made in a small tree: which check finds it, by which words, and
//! what it says is to be done.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::host::{Account, Calls, ProcessLimits, Room};
use super::*;
use crate::config::installation::Installation;

const SUMS_OF_OTHERS: &str = "00  vmlinux\n00  initramfs.cpio\n";

/// A host on which all is well, until a test changes it.
struct Host {
    directory: TempDir,
    view: HostView,
}

const FILES: &[(&str, &str)] = &[
    (
        "/proc/cpuinfo",
        "model name\t: A CPU\nflags\t\t: fpu vmx sse\n",
    ),
    ("/dev/kvm", ""),
    ("/dev/net/tun", ""),
    (
        "/proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n",
    ),
    ("/proc/self/cgroup", "0::/user/session\n"),
    ("/proc/self/ns/user", ""),
    (
        "/sys/fs/cgroup/cgroup.controllers",
        "cpuset cpu io memory pids\n",
    ),
    (
        "/sys/fs/cgroup/user/cgroup.controllers",
        "cpuset cpu io memory pids\n",
    ),
    ("/proc/sys/user/max_user_namespaces", "1000\n"),
    (
        "/proc/meminfo",
        "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n",
    ),
    ("/proc/sys/kernel/osrelease", "6.12.1-test\n"),
    (
        "/proc/sys/kernel/seccomp/actions_avail",
        "kill_process errno allow\n",
    ),
    (
        "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
        "always within_size advise [never] deny force\n",
    ),
    (
        "/boot/config-6.12.1-test",
        "CONFIG_KVM=m\nCONFIG_TUN=m\nCONFIG_NET_SCH_INGRESS=m\nCONFIG_NET_CLS_U32=m\n\
         CONFIG_NET_ACT_MIRRED=m\nCONFIG_USER_NS=y\nCONFIG_SECCOMP_FILTER=y\n\
         CONFIG_EVENTFD=y\nCONFIG_MEMFD_CREATE=y\n",
    ),
    ("/sys/kernel/security/lsm", "capability,yama\n"),
    (
        "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        "tsc\n",
    ),
    ("/etc/passwd", "web:x:1000:1000::/home/web:/bin/sh\n"),
    ("/etc/subuid", "web:100000:65536\n"),
    ("/etc/subgid", "web:100000:65536\n"),
    ("/prefix/bin/caisson", ""),
    ("/prefix/libexec/caisson/caisson-fs", ""),
    ("/prefix/libexec/caisson/caisson-vmm", ""),
    ("/prefix/libexec/caisson/caisson-jail", ""),
    ("/prefix/libexec/caisson/caisson-vsock", ""),
    ("/prefix/share/caisson/initramfs.cpio", "070701"),
];

impl Host {
    fn sound() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        let view = HostView {
            root: root.clone(),
            account: Account {
                uid: 0,
                name: "root".into(),
                is_rootless: false,
            },
            limits: ProcessLimits {
                address_space: None,
                locked_memory: Some(8 << 20),
                open_files: Some(1 << 20),
            },
            calls: Calls {
                open: |path| File::options().read(true).write(true).open(path),
                may_write: |_| Ok(()),
                room: |_| {
                    Ok(Room {
                        bytes: 1 << 30,
                        inodes: Some(1 << 20),
                    })
                },
                run_guest: |_| Ok(()),
            },
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            search_path: vec!["/usr/bin".into()],
            state_directory: "/run/caisson".into(),
            program: root.join("prefix/bin/caisson"),
            installation: Installation::unconfigured().unwrap(),
            configuration_fault: None,
        };
        let mut host = Self { directory, view };
        for (path, text) in FILES {
            host.write(path, text);
        }
        for name in ["caisson-fs", "caisson-vmm", "caisson-jail", "caisson-vsock"] {
            host.set_mode(&format!("/prefix/libexec/caisson/{name}"), 0o755);
        }
        fs::write(host.path("/prefix/share/caisson/vmlinux"), vmlinux()).unwrap();
        fs::create_dir_all(host.path("/run/caisson")).unwrap();
        host.configure("");
        host
    }

    fn path(&self, absolute: &str) -> std::path::PathBuf {
        self.directory.path().join(&absolute[1..])
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    fn set_mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Has config.toml say this, beside the prefix.
    fn configure(&mut self, text: &str) {
        let prefix = self.path("/prefix").display().to_string();
        self.write("/etc/config.toml", &format!("prefix = {prefix:?}\n{text}"));
        let found = Installation::find(Some(&self.path("/etc/config.toml")));
        match found {
            Ok(installation) => self.view.installation = installation,
            Err(fault) => self.view.configuration_fault = Some(fault),
        }
    }

    fn as_user(&mut self) {
        self.view.account = Account {
            uid: 1000,
            name: "web".into(),
            is_rootless: true,
        };
        for name in ["newuidmap", "newgidmap"] {
            self.write(&format!("/usr/bin/{name}"), "");
            self.set_mode(&format!("/usr/bin/{name}"), 0o4755);
        }
    }

    fn finding(&self, name: &str) -> Finding {
        let check = CHECKS.iter().find(|check| check.name == name).unwrap();
        (check.examine)(&self.view)
    }
}

/// The smallest that is one: an ELF header and one segment of 100 bytes.
fn vmlinux() -> Vec<u8> {
    let mut bytes = vec![0; 64 + 56 + 100];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18] = 0x3e;
    bytes[32] = 64;
    bytes[56] = 1;
    bytes[72] = 120;
    bytes[96] = 100;
    bytes
}

/// The fault that `inject` makes is found by the check `name`, and no sound host has it.
#[track_caller]
fn finds(name: &str, verdict: Verdict, words: [&str; 2], inject: impl FnOnce(&mut Host)) {
    let mut host = Host::sound();
    inject(&mut host);
    let found = host.finding(name);
    let [evidence, fix] = words;
    assert_eq!(found.verdict, verdict, "{name}: {found:?}");
    assert!(found.evidence.contains(evidence), "{name}: {found:?}");
    let text = found.fix.as_deref().unwrap_or_default();
    assert!(text.contains(fix), "{name}: {found:?}");
}

#[track_caller]
fn fails(name: &str, words: [&str; 2], inject: impl FnOnce(&mut Host)) {
    finds(name, Verdict::Fail, words, inject);
}

#[track_caller]
fn warns(name: &str, words: [&str; 2], inject: impl FnOnce(&mut Host)) {
    finds(name, Verdict::Warn, words, inject);
}

fn refused(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

#[test]
fn a_sound_host_passes_every_check_and_there_are_many() {
    let mut host = Host::sound();
    assert!(CHECKS.len() >= 20);
    for examined in examine(&host.view, &[]).unwrap() {
        assert_eq!(examined.finding.verdict, Verdict::Ok, "{examined:?}");
        assert_eq!(examined.finding.fix, None);
    }
    host.as_user();
    host.write(
        "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
        "[advise] never",
    );
    for examined in examine(&host.view, &[]).unwrap() {
        assert_eq!(examined.finding.verdict, Verdict::Ok, "{examined:?}");
    }
}

#[test]
fn the_configuration() {
    fails("configuration", ["machin", "README.md"], |host| {
        host.configure("machin = \"kvm\"");
    });
    fails(
        "configuration",
        ["can't be read", "CAISSON_CONFIG"],
        |host| {
            let gone = Installation::find(Some(Path::new("/nowhere/config.toml")));
            host.view.configuration_fault = gone.err();
        },
    );
    warns(
        "configuration",
        ["/nowhere/vmlinux", "take it out"],
        |host| {
            host.configure("allowed_kernels = [\"/nowhere/vmlinux\"]");
        },
    );
}

fn without_virtualization(host: &mut Host) {
    host.write("/proc/cpuinfo", "flags : fpu hypervisor\n");
}

#[test]
fn a_cpu_without_virtualization() {
    fails(
        "cpu-virtualization",
        ["neither vmx nor svm", "bare-metal"],
        without_virtualization,
    );
    fails(
        "cpu-virtualization",
        ["neither vmx nor svm", "firmware settings"],
        |host| {
            host.write("/proc/cpuinfo", "");
        },
    );
    fails(
        "kvm-usable",
        ["neither svm nor vmx", "bare-metal"],
        without_virtualization,
    );
    warns(
        "cpu-virtualization",
        ["allow_emulation", "bare-metal"],
        |host| {
            without_virtualization(host);
            host.configure("allow_emulation = true");
        },
    );
    warns("cpu-nesting", ["VMware", "bare metal"], |host| {
        host.write("/sys/class/dmi/id/sys_vendor", "VMware, Inc.\n");
    });
}

#[test]
fn kvm_that_is_missing_or_refused() {
    fails(
        "kvm-device",
        ["does not exist", "modprobe kvm_intel"],
        |host| {
            host.remove("/dev/kvm");
        },
    );
    fails(
        "kvm-device",
        ["does not exist", "--device /dev/kvm"],
        |host| {
            host.remove("/dev/kvm");
            host.write("/.dockerenv", "");
        },
    );
    fails(
        "kvm-access",
        ["no /dev/kvm", "modprobe kvm_intel"],
        |host| {
            host.remove("/dev/kvm");
        },
    );
    fails(
        "kvm-usable",
        ["no such file", "modprobe kvm_intel"],
        |host| {
            host.remove("/dev/kvm");
        },
    );
    for name in ["kvm-access", "kvm-usable"] {
        fails(name, ["permission denied", "usermod -aG kvm web"], |host| {
            host.as_user();
            host.view.calls.open = |_| Err(refused(13));
        });
    }
    for (name, words) in [("kvm-access", "not permitted"), ("kvm-usable", "denied")] {
        fails(name, [words, "device rule"], |host| {
            host.view.calls.open = |_| Err(refused(1));
        });
    }
    for (config, evidence) in [
        ("machine = \"tcg\"", "not used with"),
        ("allow_emulation = true", "emulates guests"),
    ] {
        for name in ["kvm-device", "kvm-access", "kvm-usable"] {
            warns(name, [evidence, "modprobe"], |host| {
                host.remove("/dev/kvm");
                host.configure(config);
            });
        }
    }
}

#[test]
fn kvm_that_runs_no_guest() {
    fails(
        "kvm-usable",
        ["create a VM: Device or resource busy", "VirtualBox"],
        |host| {
            host.view.calls.run_guest = |_| Err("create a VM: Device or resource busy".into());
        },
    );
    fails("kvm-usable", ["has not ended", "dmesg"], |host| {
        host.view.calls.run_guest = |_| Err("it has not ended after 1500 ms".into());
    });
}

#[test]
fn parts_of_the_installation_that_are_missing() {
    fails(
        "helpers",
        ["caisson-vmm does not exist", "make install"],
        |host| {
            host.remove("/prefix/libexec/caisson/caisson-vmm");
        },
    );
    fails(
        "helpers",
        ["caisson-vsock does not exist", "make install"],
        |host| {
            host.remove("/prefix/libexec/caisson/caisson-vsock");
            host.configure("machine = \"tcg\"");
        },
    );
    fails("helpers", ["not an executable", "chmod 755"], |host| {
        host.set_mode("/prefix/libexec/caisson/caisson-fs", 0o644);
    });
    fails(
        "guest-kernel",
        ["vmlinux does not exist", "make kernel"],
        |host| {
            host.remove("/prefix/share/caisson/vmlinux");
        },
    );
    fails("guest-kernel", ["truncated", "make kernel"], |host| {
        host.write("/prefix/share/caisson/vmlinux", "\u{7f}ELF");
    });
    fails(
        "guest-kernel",
        ["initramfs.cpio does not exist", "make kernel"],
        |host| {
            host.remove("/prefix/share/caisson/initramfs.cpio");
        },
    );
    fails("guest-kernel", ["is empty", "make kernel"], |host| {
        host.write("/prefix/share/caisson/initramfs.cpio", "");
    });
    warns(
        "image-hashes",
        ["was installed with 00", "sha256sum"],
        |host| {
            host.write("/prefix/share/caisson/SHA256SUMS", SUMS_OF_OTHERS);
        },
    );
    fails(
        "image-hashes",
        ["vmlinux can't be read", "chmod 644"],
        |host| {
            host.remove("/prefix/share/caisson/vmlinux");
            fs::create_dir(host.path("/prefix/share/caisson/vmlinux")).unwrap();
        },
    );
}

#[test]
fn hashes_are_those_of_sha256sum() {
    let host = Host::sound();
    host.write("/prefix/share/caisson/initramfs.cpio", "abc");
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let sums = format!("{abc}  initramfs.cpio\n");
    host.write("/prefix/share/caisson/SHA256SUMS", &sums);
    let found = host.finding("image-hashes");
    assert_eq!(found.verdict, Verdict::Ok, "{found:?}");
    assert!(found.evidence.contains(abc) && found.evidence.contains("as installed"));
}

#[test]
fn qemu_where_guests_are_emulated() {
    let tcg = |qemu: &str| format!("machine = \"tcg\"\nqemu = {qemu:?}\n");
    fails(
        "qemu",
        ["/nowhere/qemu does not exist", "qemu-system-x86"],
        |host| {
            host.configure(&tcg("/nowhere/qemu"));
        },
    );
    fails(
        "qemu",
        ["not an x86-64 program", "qemu-system-x86"],
        |host| {
            host.write("/usr/bin/qemu", "#!/bin/sh\n");
            let script = host.path("/usr/bin/qemu");
            host.configure(&tcg(script.to_str().unwrap()));
        },
    );
    fails("qemu", ["without seccomp", "--enable-seccomp"], |host| {
        host.configure(&tcg("/bin/sh"));
    });
    warns("qemu", ["without seccomp", "--enable-seccomp"], |host| {
        host.configure("allow_emulation = true\nqemu = \"/bin/sh\"\n");
    });
}

#[test]
fn devices_of_networks() {
    fails(
        "tun",
        ["/dev/net/tun does not exist", "modprobe tun"],
        |host| {
            host.remove("/dev/net/tun");
        },
    );
    fails("tun", ["not permitted", "device rule"], |host| {
        host.view.calls.open = |_| Err(refused(1));
    });
    fails(
        "vhost-net",
        ["/dev/vhost-net", "modprobe vhost_net"],
        |host| {
            host.configure("vhost_net = true");
        },
    );
}

const VERSION_1: &str = "31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

#[test]
fn cgroups_that_are_missing_or_read_only() {
    fails(
        "cgroup-version",
        ["no cgroup file system", "mount -t cgroup2"],
        |host| {
            host.write("/proc/self/mountinfo", "");
        },
    );
    fails(
        "cgroup-write",
        ["/sys/fs/cgroup: read-only", "remount,rw"],
        |host| {
            host.view.calls.may_write = |_| Err(refused(30));
        },
    );
    fails("cgroup-write", ["read-only", "--privileged"], |host| {
        host.write("/.dockerenv", "");
        host.view.calls.may_write = |_| Err(refused(30));
    });
    fails(
        "cgroup-write",
        ["permission denied", "--cgroup-manager disabled"],
        |host| {
            host.view.calls.may_write = |_| Err(refused(13));
        },
    );
    warns(
        "cgroup-controllers",
        ["missing: cpuset io pids", "cgroup_disable"],
        |host| {
            host.write("/sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
        },
    );
    warns(
        "cgroup-controllers",
        ["missing: cpu cpuset io pids", "cgroup_disable"],
        |host| {
            host.write("/proc/self/mountinfo", VERSION_1);
            host.write("/proc/self/cgroup", "2:memory:/\n");
        },
    );
}

#[test]
fn cgroups_of_a_user() {
    warns(
        "cgroup-version",
        ["version 1", "unified_cgroup_hierarchy"],
        |host| {
            host.as_user();
            host.write("/proc/self/mountinfo", VERSION_1);
            host.write("/proc/self/cgroup", "2:memory:/\n");
        },
    );
    warns(
        "cgroup-write",
        ["/sys/fs/cgroup/user: permission", "--systemd-cgroup"],
        |host| {
            host.as_user();
            host.view.calls.may_write = |_| Err(refused(13));
        },
    );
    warns(
        "cgroup-delegation",
        ["not delegated to web: cpu cpuset io", "Delegate="],
        |host| {
            host.as_user();
            host.write("/sys/fs/cgroup/user/cgroup.controllers", "memory pids\n");
        },
    );
}

#[test]
fn cgroups_that_are_not_delegated() {
    let denied = "not delegated to web: /sys/fs/cgroup/user: permission denied";
    warns("cgroup-delegation", [denied, "Delegate="], |host| {
        host.as_user();
        host.view.calls.may_write = |_| Err(refused(13));
    });
    let mut host = Host::sound();
    host.as_user();
    host.write("/proc/self/mountinfo", VERSION_1);
    host.write("/proc/self/cgroup", "2:memory:/\n");
    let found = host.finding("cgroup-delegation");
    assert!(found.evidence.contains("nothing is delegated"), "{found:?}");
}

#[test]
fn ids_of_a_user() {
    warns("newuidmap", ["newgidmap not found", "uidmap"], |host| {
        host.as_user();
        host.remove("/usr/bin/newgidmap");
        host.view.search_path.clear();
    });
    warns("newuidmap", ["neither setuid root", "chmod u+s"], |host| {
        host.as_user();
        host.set_mode("/usr/bin/newuidmap", 0o755);
    });
    for text in ["", "web:100000:1\n", "other:100000:65536\n", "web:x\n:::\n"] {
        warns(
            "subordinate-ids",
            ["/etc/subgid gives web", "--add-subgids"],
            |host| {
                host.as_user();
                host.write("/etc/subgid", text);
            },
        );
    }
}

#[test]
fn user_namespaces_that_are_refused() {
    fails(
        "user-namespaces",
        ["has no user namespaces", "CONFIG_USER_NS"],
        |host| {
            host.remove("/proc/self/ns/user");
        },
    );
    fails(
        "user-namespaces",
        ["max_user_namespaces is 0", "sysctl"],
        |host| {
            host.write("/proc/sys/user/max_user_namespaces", "0\n");
        },
    );
    for (file, value) in [
        ("unprivileged_userns_clone", "0\n"),
        ("apparmor_restrict_unprivileged_userns", "1\n"),
    ] {
        fails("user-namespaces", [file, "sysctl -w kernel."], |host| {
            host.as_user();
            host.write(&format!("/proc/sys/kernel/{file}"), value);
        });
    }
}

#[test]
fn limits_of_memory_and_descriptors() {
    warns("memory", ["97 of 8192 MiB", "default_mem_mib"], |host| {
        host.write(
            "/proc/meminfo",
            "MemTotal: 8388608 kB\nMemAvailable: 100000 kB\n",
        );
    });
    warns("memory", ["can't be read", "mount -t proc"], |host| {
        host.write("/proc/meminfo", "MemTotal: many\n");
    });
    fails(
        "address-space",
        ["RLIMIT_AS is 512 MiB", "ulimit -v"],
        |host| {
            host.view.limits.address_space = Some(512 << 20);
        },
    );
    fails(
        "open-files",
        ["RLIMIT_NOFILE is 256", "ulimit -Hn"],
        |host| {
            host.view.limits.open_files = Some(256);
        },
    );
    warns(
        "open-files",
        ["RLIMIT_NOFILE is 4096", "LimitNOFILE"],
        |host| {
            host.as_user();
            host.view.limits.open_files = Some(4096);
        },
    );
    let shmem = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    warns(
        "huge-pages",
        ["no transparent huge pages", "CONFIG_TRANSPARENT"],
        |host| {
            host.remove(shmem);
        },
    );
    warns("huge-pages", ["is deny", "echo advise"], |host| {
        host.write(shmem, "never [deny]");
    });
    warns("huge-pages", ["is never", "echo advise"], Host::as_user);
}

#[test]
fn a_kernel_that_lacks_something() {
    fails(
        "kernel-version",
        ["5.10.0-8-amd64 is older than 5.12", "boot Linux 5.12"],
        |host| {
            host.write("/proc/sys/kernel/osrelease", "5.10.0-8-amd64\n");
        },
    );
    warns("kernel-version", ["no version", "mount -t proc"], |host| {
        host.write("/proc/sys/kernel/osrelease", "x.y\n");
    });
    warns(
        "kernel-config",
        ["lacks CONFIG_TUN (networks)", "as y or m"],
        |host| {
            let sound = host.view.text("/boot/config-6.12.1-test").unwrap();
            let without = sound.replace("CONFIG_TUN=m", "# CONFIG_TUN is not set");
            host.write("/boot/config-6.12.1-test", &without);
        },
    );
    fails(
        "seccomp",
        ["no seccomp filters", "CONFIG_SECCOMP_FILTER"],
        |host| {
            host.remove("/proc/sys/kernel/seccomp/actions_avail");
        },
    );
    fails(
        "seccomp",
        ["no action kill_process", "CONFIG_SECCOMP_FILTER"],
        |host| {
            host.write("/proc/sys/kernel/seccomp/actions_avail", "errno allow\n");
        },
    );
    warns("lsm", ["SELinux is enforcing", "ausearch"], |host| {
        host.write("/sys/fs/selinux/enforce", "1");
    });
}

#[test]
fn the_state_directory() {
    fails(
        "state-directory",
        ["may be written to by others", "--root"],
        |host| {
            host.set_mode("/run/caisson", 0o777);
        },
    );
    fails("state-directory", ["read-only", "mount -t tmpfs"], |host| {
        host.view.calls.may_write = |_| Err(refused(30));
    });
    fails(
        "state-directory",
        ["/run/caisson: permission", "--root"],
        |host| {
            host.view.calls.may_write = |_| Err(refused(13));
        },
    );
    fails(
        "state-directory",
        ["/run/other can't be made: perm", "XDG_RUNTIME_DIR"],
        |host| {
            host.view.state_directory = "/run/other".into();
            host.view.calls.may_write = |_| Err(refused(13));
        },
    );
    fails("disk-space", ["0 KiB", "remount,size"], |host| {
        host.view.calls.room = |_| {
            Ok(Room {
                bytes: 0,
                inodes: None,
            })
        };
    });
    fails("disk-space", ["and 3 inodes", "df -i"], |host| {
        host.view.calls.room = |_| {
            Ok(Room {
                bytes: 1 << 30,
                inodes: Some(3),
            })
        };
    });
    warns("disk-space", ["1024 KiB", "free space"], |host| {
        host.view.calls.room = |_| {
            Ok(Room {
                bytes: 1 << 20,
                inodes: None,
            })
        };
    });
    warns("disk-space", ["input/output error", "df"], |host| {
        host.view.calls.room = |_| Err(refused(5));
    });
}

#[test]
fn engines_that_do_not_know_caisson() {
    let program = |name: &str| format!("/usr/bin/{name}");
    for name in ["docker", "podman", "containerd"] {
        let check = format!("engine-{name}");
        warns(&check, ["does not know caisson", "caisson setup"], |host| {
            host.write(&program(name), "");
        });
    }
    warns(
        "engine-docker",
        ["can't be read", "correct /etc/docker"],
        |host| {
            host.write(&program("dockerd"), "");
            host.write("/etc/docker/daemon.json", "{");
        },
    );
    let entry = |path: &str| format!("{{\"runtimes\": {{\"caisson\": {{\"path\": {path:?}}}}}}}");
    warns(
        "engine-docker",
        ["/gone/caisson, which does not exist", "setup docker"],
        |host| {
            host.write(&program("dockerd"), "");
            host.write("/etc/docker/daemon.json", &entry("/gone/caisson"));
        },
    );
    warns(
        "engine-docker",
        ["another installation", "setup docker"],
        |host| {
            host.write(&program("dockerd"), "");
            host.write("/opt/bin/caisson", "");
            host.write("/etc/docker/daemon.json", &entry("/opt/bin/caisson"));
        },
    );
    for name in ["dockerd", "containerd"] {
        warns("containerd-shim", ["can't start it", "ln -s"], |host| {
            host.write(&program(name), "");
        });
    }
}

#[test]
fn engines_that_know_caisson() {
    let host = Host::sound();
    for name in ["docker", "podman", "containerd"] {
        host.write(&format!("/usr/bin/{name}"), "");
    }
    let prefix = "/prefix/bin/caisson";
    let json = format!("{{\"runtimes\": {{\"caisson\": {{\"path\": {prefix:?}}}}}}}");
    host.write("/etc/docker/daemon.json", &json);
    let toml = format!("[engine.runtimes]\ncaisson = [{prefix:?}]\n");
    host.write("/etc/containers/containers.conf.d/50-caisson.conf", &toml);
    host.write("/usr/bin/containerd-shim-caisson-v2", "");
    for (name, words) in [
        ("engine-docker", "names /prefix/bin/caisson, version"),
        ("engine-podman", "names /prefix/bin/caisson, version"),
        ("engine-containerd", "none is needed"),
        ("containerd-shim", "/usr/bin/containerd-shim-caisson-v2"),
    ] {
        let found = host.finding(name);
        assert_eq!(found.verdict, Verdict::Ok, "{found:?}");
        assert!(found.evidence.contains(words), "{found:?}");
    }
}

#[test]
fn the_clock() {
    warns("clock", ["1970-01-01", "set-ntp"], |host| {
        host.view.now = SystemTime::UNIX_EPOCH;
    });
    warns("clock-source", ["hpet", "dmesg"], |host| {
        host.write(
            "/sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet\n",
        );
    });
}

/// No check may end the program, whatever the files hold.
#[test]
fn a_host_of_odd_files_is_examined_to_the_end() {
    for text in [
        "",
        "\n:\n::\n - \n",
        "\u{0}\u{ff}\u{2028} \u{1b}[2J",
        "0 : a b c - d e f",
    ] {
        for ordinary in [false, true] {
            let mut host = Host::sound();
            if ordinary {
                host.as_user();
            }
            for (path, _) in FILES
                .iter()
                .filter(|(path, _)| !path.starts_with("/prefix"))
            {
                host.write(path, text);
            }
            assert_eq!(examine(&host.view, &[]).unwrap().len(), CHECKS.len());
        }
    }
}

#[test]
fn names_choose_checks_by_whole_words() {
    let host = Host::sound();
    let names = |wanted: &[&str]| {
        let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
        let examined = examine(&host.view, &wanted).unwrap();
        examined.iter().map(|one| one.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&["kvm"]), ["kvm-device", "kvm-access", "kvm-usable"]);
    assert_eq!(names(&["tun", "clock"]), ["tun", "clock", "clock-source"]);
    let err = examine(&host.view, &["kv".into()]).unwrap_err();
    assert!(err.to_string().contains("\"kv\""), "{err}");
}

#[test]
fn the_report_has_the_documented_form() {
    let examined = [
        Examined {
            name: "clock",
            finding: Finding::ok("fine\u{1b}[2J"),
        },
        Examined {
            name: "tun",
            finding: Finding::fail("gone\nand more", "modprobe tun"),
        },
    ];
    let json: serde_json::Value = serde_json::from_str(&report::json(&examined).unwrap()).unwrap();
    let expected = serde_json::json!({
        "caisson_version": env!("CARGO_PKG_VERSION"),
        "result": "FAIL",
        "checks": [
            {"name": "clock", "result": "OK", "evidence": "fine?[2J", "fix": null},
            {"name": "tun", "result": "FAIL", "evidence": "gone and more", "fix": "modprobe tun"},
        ],
    });
    assert_eq!(json, expected);
    assert_eq!(
        report::text(&examined),
        "OK    clock  fine?[2J\nFAIL  tun    gone and more\n             fix: modprobe tun\n\
         1 OK, 0 WARN, 1 FAIL\n"
    );
    assert_eq!(report::exit_status(&examined), 1);
    assert_eq!(report::exit_status(&examined[..1]), 0);
    let warned = [Examined {
        name: "clock",
        finding: Finding::warn("x", "y"),
    }];
    assert_eq!(report::exit_status(&warned), 0);
}

/// Every check that an error line sends to exists.
#[test]
fn errors_name_checks_that_exist() {
    use crate::config::installation;
    use crate::host::identity;
    use crate::network;
    use crate::vm::hypervisor_error::{Error, KvmFault};

    let missing = Installation::find(Some(Path::new("/dev/null"))).unwrap();
    let config = || Path::new("/etc/caisson/config.toml").to_owned();
    let source = || refused(2);
    let lines = [
        Error::Kvm(KvmFault::Denied).to_string(),
        Error::Kvm(KvmFault::Missing).to_string(),
        Error::Kvm(KvmFault::Unopened(source())).to_string(),
        Error::EmulationNotAllowed {
            reason: KvmFault::Emulated,
            config: config(),
        }
        .to_string(),
        Error::NoQemu.to_string(),
        Error::Qemu {
            path: config(),
            reason: "x".into(),
        }
        .to_string(),
        Error::Kernel {
            path: "x".into(),
            reason: "x".into(),
        }
        .to_string(),
        installation::Error::Config {
            path: config(),
            message: "x".into(),
        }
        .to_string(),
        missing.helper("no-such-helper").unwrap_err().to_string(),
        identity::Error::Missing {
            program: "newuidmap",
            source: source(),
        }
        .to_string(),
        identity::Error::Mapper {
            program: "newuidmap",
            message: "x".into(),
        }
        .to_string(),
        network::Error::Tap(source()).to_string(),
        network::Error::Vhost(source()).to_string(),
    ];
    for line in lines {
        let (_, named) = line.split_once("see `caisson doctor ").expect(&line);
        let (name, _) = named.split_once('`').unwrap();
        assert!(CHECKS.iter().any(|check| check.name == name), "{line}");
    }
}

#[test]
fn the_page_lists_every_check() {
    let page = include_str!("../../../docs/doctor.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let listed: String = rows.filter_map(|row| row.split('|').nth(1)).collect();
    for check in CHECKS {
        let name = format!("`{}`", check.name);
        assert!(listed.contains(&name), "{name}");
    }
}
