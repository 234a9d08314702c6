//! Containers of an ordinary user: no privileged call is needed, and files
//! have owners as the ids are mapped.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use caisson_tests::{Bundle, Machine, Output, Scene, stories};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::{Mode, SFlag, mknod};
use serde_json::{Value, json};

stories![
    what_spec_writes_for_an_ordinary_user_runs,
    a_whole_life_in_the_users_own_state_folder,
    files_have_owners_as_mapped,
    lent_ids_are_mapped_too,
    // The test host has newuidmap; where tcg is tested it may not be there.
    a_sandbox_is_in_a_user_namespace.only(Machine::Kvm),
    ids_of_others_are_refused,
    a_cgroup_that_is_not_the_users_is_refused,
    a_delegated_cgroup_is_used,
    without_a_state_folder_one_line_says_so,
    root_of_a_user_namespace_uses_the_users_state_folder,
    the_containers_own_address_is_reached_from_its_namespace.limit(300),
];

const UID: u32 = 54_321;
const LENT: u32 = 700_000;

/// An ordinary user with a runtime directory, and a root file system of its own.
struct User<'a> {
    scene: &'a Scene,
    gid: u32,
}

impl<'a> User<'a> {
    fn new(scene: &'a Scene) -> Self {
        let user = Self { scene, gid: UID };
        let runtime = user.runtime_folder();
        fs::create_dir(&runtime).unwrap();
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
        user.own(&runtime);
        user.own(&scene.rootfs());
        user.may_use_kvm();
        // The installation may lie where only root can go.
        let dist = scene.path("dist");
        fs::create_dir(&dist).unwrap();
        bind(&scene.settings.dist, &dist);
        user
    }

    fn runtime_folder(&self) -> PathBuf {
        self.scene.path("runtime")
    }

    fn own(&self, path: &Path) {
        let mut change = Command::new("chown");
        change
            .arg("-Rh")
            .arg(format!("{UID}:{}", self.gid))
            .arg(path);
        assert!(change.status().unwrap().success());
    }

    /// As members of a group may on hosts with udev; here by a device node that
    /// this test alone sees.
    fn may_use_kvm(&self) {
        if self.scene.settings.machine != Machine::Kvm {
            return;
        }
        let (node, device) = (self.scene.path("kvm"), fs::metadata("/dev/kvm").unwrap());
        mknod(
            &node,
            SFlag::S_IFCHR,
            Mode::S_IRUSR | Mode::S_IWUSR,
            device.rdev(),
        )
        .unwrap();
        self.own(&node);
        bind(&node, Path::new("/dev/kvm"));
    }

    /// As on every host with udev.
    fn may_make_taps(&self) {
        let node = self.scene.path("tun");
        let device = fs::metadata("/dev/net/tun").unwrap();
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&node, SFlag::S_IFCHR, mode, device.rdev()).unwrap();
        self.own(&node);
        bind(&node, Path::new("/dev/net/tun"));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.scene.path("dist/bin/caisson"));
        command
            .env("CAISSON_CONFIG", self.scene.path("config.toml"))
            .env("XDG_RUNTIME_DIR", self.runtime_folder())
            .args(arguments)
            .stdin(Stdio::null())
            .uid(UID)
            .gid(self.gid);
        command
    }

    fn caisson(&self, arguments: &[&str]) -> Output {
        self.scene.output_of(self.command(arguments))
    }

    /// What `spec --rootless` writes, with another program and no terminal.
    fn shell(&self, script: &str) -> Bundle {
        let number = self.scene.number();
        let path = self.scene.path(&format!("bundle-{number}"));
        fs::create_dir(&path).unwrap();
        chown(&path, Some(UID), Some(self.gid)).unwrap();
        self.caisson(&["spec", "--rootless", "--bundle", path.to_str().unwrap()])
            .ok();
        let bundle = Bundle {
            id: format!("{}-{number}", self.scene.tag()),
            path,
            rootfs: self.scene.rootfs(),
        };
        bundle.edit(|config| {
            config["process"]["args"] = json!(["sh", "-c", script]);
            config["process"]["terminal"] = false.into();
            config["root"] = json!({"path": bundle.rootfs});
        });
        bundle
    }

    fn run(&self, bundle: &Bundle) -> Output {
        self.caisson(&["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id])
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        umount(&self.scene.path("dist")).ok();
        if self.scene.path("tun").exists() {
            umount("/dev/net/tun").ok();
        }
        if self.scene.settings.machine == Machine::Kvm {
            umount("/dev/kvm").ok();
        }
    }
}

fn bind(from: &Path, to: &Path) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

fn what_spec_writes_for_an_ordinary_user_runs(scene: &Scene) {
    let user = User::new(scene);
    let bundle = user.shell("id -u; echo $((6 * 7)); exit 9");
    let output = user.run(&bundle);
    output.exits(9);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("0\n42\n", "")
    );
    // Mappings are not needed: the user's own id is root without them.
    let bundle = user.shell("echo again");
    bundle.edit(|config| {
        for name in ["uidMappings", "gidMappings"] {
            config["linux"].as_object_mut().unwrap().remove(name);
        }
    });
    assert_eq!(user.run(&bundle).ok(), "again\n");
}

fn a_whole_life_in_the_users_own_state_folder(scene: &Scene) {
    let user = User::new(scene);
    let bundle = user.shell("sleep 1000");
    let verb = |verb: &str, rest: &[&str]| user.caisson(&[&[verb, &bundle.id], rest].concat());
    let folder = bundle.path.to_str().unwrap();
    user.caisson(&["create", "--bundle", folder, &bundle.id])
        .ok();
    assert!(
        user.runtime_folder()
            .join("caisson")
            .join(&bundle.id)
            .is_dir()
    );
    verb("start", &[]).ok();
    let state: Value = serde_json::from_str(&verb("state", &[]).ok()).unwrap();
    assert_eq!(state["status"], "running");
    // Who has no name is shown as runc does it.
    let owner = format!("#{UID}");
    assert_eq!(state["owner"], owner);
    let listed = user.caisson(&["list"]).ok();
    assert!(listed.contains(&owner), "{listed}");
    assert_eq!(verb("exec", &["echo", "hello"]).ok(), "hello\n");
    verb("delete", &["--force"]).ok();
    assert_eq!(user.caisson(&["list", "-q"]).ok(), "");
}

fn files_have_owners_as_mapped(scene: &Scene) {
    let user = User::new(scene);
    let shared = scene.path("shared");
    fs::create_dir(&shared).unwrap();
    user.own(&shared);
    fs::write(shared.join("of-root"), "").unwrap();
    let bundle = user.shell("touch /mnt/new && stat -c %u:%g /mnt/new /mnt/of-root");
    bundle.with_mount(json!({
        "destination": "/mnt", "type": "bind", "source": shared, "options": ["rbind"],
    }));
    fs::create_dir_all(bundle.rootfs.join("mnt")).unwrap();
    assert_eq!(user.run(&bundle).ok(), "0:0\n65534:65534\n");
    let new = fs::metadata(shared.join("new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (UID, user.gid));
}

/// Files of /etc with a user who has ids lent to it, seen by this test alone.
struct Lent {
    paths: Vec<&'static str>,
}

impl Lent {
    fn new(scene: &Scene, gid: u32) -> Self {
        let user = format!("tester:x:{UID}:{gid}::/:/bin/sh\n");
        let range = format!("tester:{LENT}:1000\n");
        let files = [
            ("/etc/passwd", user),
            ("/etc/subuid", range.clone()),
            ("/etc/subgid", range),
        ];
        for (path, line) in &files {
            let old = fs::read_to_string(path).unwrap_or_default();
            let new = scene.path(Path::new(path).file_name().unwrap().to_str().unwrap());
            fs::write(&new, old + line).unwrap();
            bind(&new, Path::new(path));
        }
        Self {
            paths: files.iter().map(|(path, _)| *path).collect(),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.paths.iter().for_each(|path| umount(*path).unwrap());
    }
}

fn lent_ids_are_mapped_too(scene: &Scene) {
    let has_mapper = ["/usr/bin/newuidmap", "/etc/subuid", "/etc/subgid"];
    if let Some(missing) = has_mapper.iter().find(|path| !Path::new(path).exists()) {
        scene.note(&format!("NOT TESTED: {missing} is missing here"));
        return;
    }
    let user = User::new(scene);
    let lent = Lent::new(scene, user.gid);
    let bundle = user.shell("touch /tmp/file && chown 7:8 /tmp/file && stat -c %u:%g /tmp/file");
    bundle.privileged().edit(|config| {
        config["linux"]["uidMappings"] = json!([]);
        config["linux"]["gidMappings"] = json!([]);
    });
    assert_eq!(user.run(&bundle).ok(), "7:8\n");
    let file = fs::metadata(bundle.rootfs.join("tmp/file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (LENT + 6, LENT + 7));
    drop(lent);
}

fn a_sandbox_is_in_a_user_namespace(scene: &Scene) {
    let user = User::new(scene);
    let lent = Lent::new(scene, user.gid);
    let project = scene.path("project");
    fs::create_dir(&project).unwrap();
    user.own(&project);
    let sandbox = |arguments: &[&str]| {
        let mut command = user.command(&[&["sandbox"], arguments].concat());
        command.current_dir(&project).env("HOME", "/none");
        scene.output_of(command)
    };
    let script = "id -u; touch made; cat /etc/shadow 2>/dev/null; touch /usr/x 2>/dev/null || echo read-only; \
                  touch /x /tmp/x && echo memory; ls -d /etc/passwd; exit 5";
    let output = sandbox(&["--rw", ".", "--", "sh", "-c", script]);
    output.exits(5);
    assert_eq!(
        output.stdout, "0\nread-only\nmemory\n/etc/passwd\n",
        "{}",
        output.stderr
    );
    let made = fs::metadata(project.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (UID, user.gid));
    sandbox(&["--", "/no/such"]).fails(
        1,
        "exec: \"/no/such\": stat /no/such: no such file or directory",
    );
    drop(lent);
    // Without ids lent to the user there is one line, of the program that lacks them.
    let output = sandbox(&["--", "true"]);
    output.exits(1);
    assert!(
        output.stderr.contains("unshare") || output.stderr.contains("newuidmap"),
        "{output:?}"
    );
}

fn ids_of_others_are_refused(scene: &Scene) {
    let user = User::new(scene);
    let bundle = user.shell("true");
    bundle.edit(|config| config["process"]["user"]["uid"] = 33.into());
    let text =
        "process.user.uid: 33 is not among the ids that this user's containers have; see subuid(5)";
    user.run(&bundle).fails(1, text);
    let bundle = user.shell("true");
    bundle.edit(|config| config["linux"]["uidMappings"][0]["hostID"] = 0.into());
    let text = format!(
        "linux.uidMappings: 0 must be mapped to {UID}, the id of the user who runs caisson"
    );
    user.run(&bundle).fails(1, &text);
    let bundle = user.shell("true");
    let all = json!([
        {"containerID": 0, "hostID": UID, "size": 1}, {"containerID": 1, "hostID": 1, "size": 9},
    ]);
    bundle.edit(|config| config["linux"]["uidMappings"] = all);
    let output = user.run(&bundle);
    assert!(output.error_line(1).contains("newuidmap"), "{output:?}");
}

fn a_cgroup_that_is_not_the_users_is_refused(scene: &Scene) {
    let user = User::new(scene);
    let bundle = user.shell("true");
    let path = format!("/{}", scene.tag());
    bundle.edit(|config| config["linux"]["cgroupsPath"] = path.clone().into());
    let output = user.run(&bundle);
    let line = output.error_line(1);
    assert!(line.starts_with("create cgroup /sys/fs/cgroup/"), "{line}");
    assert!(
        line.ends_with(&format!("{path}: permission denied")),
        "{line}"
    );
}

fn a_delegated_cgroup_is_used(scene: &Scene) {
    let root = Path::new("/sys/fs/cgroup");
    if !root.join("cgroup.controllers").exists() {
        scene.note("NOT TESTED: only cgroups of version 2 can be delegated");
        return;
    }
    let user = User::new(scene);
    let delegated = root.join(scene.tag());
    let own = delegated.join("session");
    fs::create_dir_all(&own).unwrap();
    user.own(&delegated);
    let bundle = user.shell("sleep 1000");
    let mut join = Command::new("sh");
    let script = "echo $$ >\"$0\"/cgroup.procs && exec \"$@\"";
    let inner = user.command(&[
        "run",
        "-d",
        "--bundle",
        bundle.path.to_str().unwrap(),
        &bundle.id,
    ]);
    join.args(["-c", script])
        .arg(&own)
        .arg(inner.get_program())
        .args(inner.get_args());
    for (name, value) in inner.get_envs() {
        join.env(name, value.unwrap());
    }
    join.uid(UID).gid(user.gid).stdin(Stdio::null());
    // Moving a process needs the right to both ends, so its start is made there.
    fs::write(own.join("cgroup.procs"), std::process::id().to_string()).unwrap();
    scene.output_of(join).ok();
    let processes = fs::read_to_string(delegated.join(&bundle.id).join("cgroup.procs")).unwrap();
    assert!(processes.lines().count() >= 3, "{processes}");
    user.caisson(&["delete", "--force", &bundle.id]).ok();
    fs::write(root.join("cgroup.procs"), std::process::id().to_string()).unwrap();
    fs::remove_dir(own).unwrap();
    fs::remove_dir(delegated).unwrap();
}

fn without_a_state_folder_one_line_says_so(scene: &Scene) {
    let user = User::new(scene);
    let bundle = user.shell("true");
    let mut command = user.command(&["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
    command.env_remove("XDG_RUNTIME_DIR");
    let output = scene.output_of(command);
    let line = output.error_line(1);
    let denied = line.contains("/run/caisson") && line.ends_with(": permission denied");
    assert!(denied, "{line}");
}

/// As Podman and Buildah call it for an ordinary user: root of their user namespace,
/// with hardly any environment.
fn root_of_a_user_namespace_uses_the_users_state_folder(scene: &Scene) {
    let user = User::new(scene);
    let bundle = user.shell("echo hello; exit 4");
    bundle.edit(|config| {
        let linux = config["linux"].as_object_mut().unwrap();
        linux.retain(|name, _| !name.ends_with("Mappings"));
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "user");
    });
    let inner = user.command(&["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--user", "--map-root-user", "--mount"])
        .arg(inner.get_program())
        .args(inner.get_args());
    for (name, value) in inner.get_envs() {
        unshare.env(name, value.unwrap());
    }
    unshare.env_remove("USER").uid(UID).gid(user.gid);
    let output = scene.output_of(unshare);
    assert_eq!(output.exits(4).stdout, "hello\n");
    assert!(user.runtime_folder().join("caisson").is_dir());
}

/// As Podman's rootlessport does it under slirp4netns, for each connection to a
/// published port, by TCP and UDP.
fn the_containers_own_address_is_reached_from_its_namespace(scene: &Scene) {
    let user = User::new(scene);
    user.may_make_taps();
    let bundle = user.shell(
        "probe serve-echo 0.0.0.0:7000 & probe serve-datagrams 0.0.0.0:7001 & exec sleep 1000",
    );
    bundle.edit(|config| {
        let linux = config["linux"].as_object_mut().unwrap();
        linux.retain(|name, _| !name.ends_with("Mappings"));
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|one| one["type"] != "user" && one["type"] != "network");
        namespaces.push(json!({"type": "network", "path": "NAMESPACE"}));
    });
    let script = r#"
set -e
bundle=$1 id=$2 probe=$3
unshare --net sleep 1000 & holder=$!
unshare --net sleep 1000 & gateway=$!
for pid in $holder $gateway; do
	until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
done
sed -i "s|NAMESPACE|/proc/$holder/ns/net|" "$bundle/config.json"
inside() { nsenter --target "$holder" --net -- "$@"; }
inside ip link set lo up
inside ip link add eth0 type veth peer name far netns "$gateway"
nsenter --target "$gateway" --net -- ip address add 10.0.2.2/24 dev far
nsenter --target "$gateway" --net -- ip link set far up
inside ip address add 10.0.2.100/24 dev eth0
inside ip link set eth0 up
inside ip route add default via 10.0.2.2
"$CAISSON" run -d --bundle "$bundle" "$id" </dev/null >"$bundle/out" 2>&1 || { cat "$bundle/out" >&2; exit 9; }
until "$CAISSON" exec "$id" nc 127.0.0.1 7000 </dev/null 2>/dev/null; do sleep 0.1; done
inside "$probe" talk 10.0.2.100:7000 200000
inside bash -c 'exec 3<>/dev/udp/10.0.2.100/7001; echo question >&3; timeout 20 head -n 1 <&3'
# Where nobody listens it is refused, as in the container.
! inside "$probe" talk 10.0.2.100:7002 1 2>/dev/null
"$CAISSON" delete --force "$id"
inside tc qdisc show dev lo
inside ip -o link | grep cais || true
kill "$holder" "$gateway"
"#;
    let mut unshare = Command::new("unshare");
    unshare
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "--net",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(&bundle.path)
        .arg(&bundle.id)
        .arg(bundle.rootfs.join("bin/probe"));
    let inner = user.command(&[]);
    unshare.env("CAISSON", inner.get_program());
    for (name, value) in inner.get_envs() {
        unshare.env(name, value.unwrap());
    }
    unshare.env_remove("USER").uid(UID).gid(user.gid);
    let output = scene.output_of(unshare);
    assert_eq!(
        output.ok(),
        "200000 bytes\nquestion\nqdisc noqueue 0: root refcnt 2 \n"
    );
}
