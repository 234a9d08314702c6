//! What `setup` makes of engines' files, as text.

use super::*;

fn programs(folder: &str) -> Programs {
    Programs {
        command: Path::new(folder).join("caisson"),
        shim: Path::new(folder).join("containerd-shim-caisson-v2"),
    }
}

fn docker(before: &str, aim: Aim) -> Option<String> {
    docker::edit(before, aim, &programs("/usr/local/bin")).unwrap()
}

fn containerd(before: &str, aim: Aim) -> Option<String> {
    containerd::edit(before, aim, &programs("/usr/local/bin")).unwrap()
}

#[test]
fn docker_without_a_file_gets_one_and_loses_it_again() {
    let entered = docker("", Aim::Entered).unwrap();
    let value: serde_json::Value = serde_json::from_str(&entered).unwrap();
    assert_eq!(
        value["runtimes"]["caisson"]["path"],
        "/usr/local/bin/caisson"
    );
    assert_eq!(docker(&entered, Aim::Removed), None);
}

#[test]
fn what_else_stands_in_dockers_file_keeps_its_place_and_form() {
    let before = "{\n    \"log-level\": \"warn\",\n    \"data-root\": \"/srv\"\n}\n";
    let entered = docker(before, Aim::Entered).unwrap();
    assert!(
        entered.starts_with("{\n    \"log-level\": \"warn\",\n    \"data-root\": \"/srv\""),
        "{entered}"
    );
    assert_eq!(
        docker(&entered, Aim::Entered).unwrap(),
        entered,
        "a second time changes nothing"
    );
    assert_eq!(docker(&entered, Aim::Removed).unwrap(), before);
}

#[test]
fn other_runtimes_of_docker_stay() {
    let before = "{\"runtimes\": {\"other\": {\"path\": \"/other\"}}}\n";
    let entered = docker(before, Aim::Entered).unwrap();
    let value: serde_json::Value = serde_json::from_str(&entered).unwrap();
    assert_eq!(value["runtimes"]["other"]["path"], "/other");
    let removed = docker(&entered, Aim::Removed).unwrap();
    let value: serde_json::Value = serde_json::from_str(&removed).unwrap();
    assert_eq!(
        value,
        serde_json::json!({"runtimes": {"other": {"path": "/other"}}})
    );
}

#[test]
fn dockers_default_goes_with_its_runtime_alone() {
    let before = "{\n    \"default-runtime\": \"caisson\",\n    \"log-level\": \"warn\"\n}\n";
    let entered = docker(before, Aim::Entered).unwrap();
    assert!(entered.contains("default-runtime"), "{entered}");
    assert_eq!(
        docker(&entered, Aim::Removed).unwrap(),
        "{\n    \"log-level\": \"warn\"\n}\n"
    );
    let other = "{\"default-runtime\": \"runc\"}\n";
    let entered = docker(other, Aim::Entered).unwrap();
    let value = serde_json::from_str::<serde_json::Value>(&docker(&entered, Aim::Removed).unwrap());
    assert_eq!(
        value.unwrap(),
        serde_json::json!({"default-runtime": "runc"})
    );
}

#[test]
fn a_file_that_docker_could_not_read_is_left_alone() {
    for bad in ["{\"a\": 1,}", "[]", "{\"runtimes\": 3}", "{ // remark\n}"] {
        assert!(
            docker::edit(bad, Aim::Entered, &programs("/x")).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn containerd_without_a_file_gets_one_and_loses_it_again() {
    let entered = containerd("", Aim::Entered).unwrap();
    assert_eq!(
        entered,
        "version = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.caisson]\nruntime_type = \"io.containerd.caisson.v2\"\n"
    );
    assert_eq!(containerd(&entered, Aim::Removed), None);
}

#[test]
fn containerds_remarks_and_other_runtimes_stay() {
    let before = "# ours\nversion = 3\n\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2' # as ever\n";
    let entered = containerd(before, Aim::Entered).unwrap();
    assert!(entered.starts_with(before), "{entered}");
    assert_eq!(containerd(&entered, Aim::Removed).unwrap(), before);
}

#[test]
fn containerds_default_goes_with_its_runtime_alone() {
    let with_default = |name: &str| {
        format!(
            "version = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n\
             snapshotter = \"overlayfs\"\n{name}"
        )
    };
    for (before, after) in [
        (
            with_default("default_runtime_name = \"caisson\"\n"),
            with_default(""),
        ),
        (
            with_default("default_runtime_name = \"runc\"\n"),
            with_default("default_runtime_name = \"runc\"\n"),
        ),
    ] {
        let entered = containerd(&before, Aim::Entered).unwrap();
        assert!(entered.starts_with(&before), "{entered}");
        assert_eq!(containerd(&entered, Aim::Removed).unwrap(), after);
    }
}

#[test]
fn a_shim_off_the_path_is_named() {
    let entered = containerd::edit("", Aim::Entered, &programs("/opt/caisson/bin")).unwrap();
    let named = "runtime_path = \"/opt/caisson/bin/containerd-shim-caisson-v2\"";
    assert!(entered.unwrap().contains(named));
}

#[test]
fn a_file_of_an_unknown_version_is_left_alone() {
    for bad in [
        "version = 9\n",
        "root = '/x'\n",
        "version = 2\nplugins = 3\n",
        "a =",
    ] {
        assert!(
            containerd::edit(bad, Aim::Entered, &programs("/x")).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn podman_gets_a_file_of_its_own() {
    let text = podman::text(Aim::Entered, &programs("/usr/local/bin")).unwrap();
    assert!(
        text.contains("caisson = [\"/usr/local/bin/caisson\"]"),
        "{text}"
    );
    assert_eq!(
        podman::text(Aim::Removed, &programs("/usr/local/bin")),
        None
    );
}

#[test]
fn a_default_of_podmans_that_stays_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let parts = folder.path().join("containers.conf.d");
    fs::create_dir(&parts).unwrap();
    let file = parts.join("50-caisson.conf");
    let hint = |aim| Engine::Podman.plan(&file, aim).unwrap().hint;
    fs::write(parts.join("10.conf"), "[engine]\nruntime = \"crun\"\n").unwrap();
    assert_eq!(hint(Aim::Removed), None);
    let named = folder.path().join("containers.conf");
    fs::write(&named, "[engine]\nruntime = \"caisson\"\n").unwrap();
    assert_eq!(hint(Aim::Entered), None);
    let told = hint(Aim::Removed).unwrap();
    assert!(
        told.starts_with(&format!("{} says runtime = \"caisson\": ", named.display())),
        "{told}"
    );
}

#[test]
fn a_change_is_made_whole_and_keeps_the_files_mode() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sub/daemon.json");
    let first = Engine::Docker.plan(&file, Aim::Entered).unwrap();
    assert!(!first.is_none());
    assert!(first.diff().contains("+"), "{}", first.diff());
    first.make().unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(Engine::Docker.plan(&file, Aim::Entered).unwrap().is_none());
    fs::write(&file, "{\"debug\": true}").unwrap();
    Engine::Docker
        .plan(&file, Aim::Entered)
        .unwrap()
        .make()
        .unwrap();
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    Engine::Docker
        .plan(&file, Aim::Removed)
        .unwrap()
        .make()
        .unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&fs::read_to_string(&file).unwrap()).unwrap(),
        serde_json::json!({"debug": true})
    );
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
}
