//! A guest makes the host hold a descriptor for each file name that it remembers. It
//! forgets in time, so nobody notices; who really holds too many is refused alone.
//!
//! The limit of open files is low here, so that a few thousand files are too many.

use std::fs;
use std::process::{Command, Stdio};

use caisson_tests::{Bundle, Container, Output, Scene, stories};
use serde_json::json;

stories![
    a_walk_over_more_files_than_may_be_open.limit(400),
    who_holds_too_many_files_is_refused_alone.limit(400),
];

/// What the owner and its helpers may open, and can't raise.
const OPEN_FILES: &str = "--nofile=1024:1024";
const FILES: usize = 6000;

/// A command of caisson with a low limit of open files.
fn limited(scene: &Scene, arguments: &[&str]) -> Command {
    let command = scene.command(arguments);
    let mut limited = Command::new("setpriv");
    limited.args(["--inh-caps=-sys_resource", "--bounding-set=-sys_resource"]);
    limited.args(["prlimit", OPEN_FILES]);
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    limited.stdin(Stdio::null());
    limited
}

/// Mounts a directory with `FILES` files of one byte, in directories of a hundred.
fn share_many_files(scene: &Scene, bundle: &Bundle) {
    let shared = scene.path("many-files");
    for folder in 0..FILES / 100 {
        let folder = shared.join(folder.to_string());
        fs::create_dir_all(&folder).unwrap();
        for file in 0..100 {
            fs::write(folder.join(file.to_string()), "x").unwrap();
        }
    }
    bundle.with_mount(json!({
        "destination": "/mnt", "type": "bind", "source": shared, "options": ["rbind"],
    }));
}

fn a_walk_over_more_files_than_may_be_open(scene: &Scene) {
    // Names alone, then open files, whose contents stay cached, then names again.
    let bundle = scene.shell(
        "find /mnt -type f | wc -l; find /mnt -type f -exec cat {} + | wc -c; \
         find /mnt -type f -exec ls -l {} + | wc -l; echo new >/mnt/new; cat /mnt/new",
    );
    share_many_files(scene, &bundle);
    let folder = bundle.path.to_str().unwrap();
    let output = scene.output_of(limited(scene, &["run", "--bundle", folder, &bundle.id]));
    assert_eq!(output.ok(), "6000\n6000\n6000\nnew\n");
}

fn who_holds_too_many_files_is_refused_alone(scene: &Scene) {
    let bundle = scene.bundle(&["sleep", "1000"]);
    share_many_files(scene, &bundle);
    bundle.edit(|config| {
        config["process"]["rlimits"] =
            json!([{"type": "RLIMIT_NOFILE", "soft": 8192, "hard": 8192}]);
    });
    let log = scene.path("held.log");
    let folder = bundle.path.to_str().unwrap();
    let create = ["--log", log.to_str().unwrap(), "create", "--bundle", folder];
    let pid_file = bundle.path.join("pid");
    let mut create = limited(scene, &create);
    create.arg("--pid-file").arg(&pid_file).arg(&bundle.id);
    scene.output_of(create).ok();
    let pid = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let container = Container::known(scene, &bundle.id, pid);
    container.start();

    let exec = |script: &str| -> Output { container.exec(&["sh", "-c", script]) };
    // It says what it can't open, and holds the others until it is told to end.
    let holding = ": >/tmp/held; set -- /mnt/*/*; tail -f \"$@\" >/tmp/held 2>&1 & echo $! >/tmp/pid; \
                   until grep -q 'Too many open files in system' /tmp/held; do usleep 100000; done";
    exec(holding).ok();
    assert_eq!(exec("cat /mnt/59/99; ls /mnt | wc -l").ok(), "x60\n");
    assert_eq!(
        exec("echo other >/mnt/other; cat /mnt/other").ok(),
        "other\n"
    );
    exec("kill $(cat /tmp/pid); find /mnt -type f | wc -l").ok();
    assert_eq!(exec("cat /mnt/*/* | wc -c").ok(), "6000\n");
    let said = fs::read_to_string(&log).unwrap();
    assert!(
        said.contains("holds too many files and gets ENFILE"),
        "{said}"
    );
    container.remove();
}
