//! Bind mounts, from configurations of one mount.

use serde_json::{Value, json};

use super::*;

fn planned_with(linux: &Value, mount: &Value) -> Result<(Vec<Share>, Mount), Malformed> {
    let raw = json!({"ociVersion": "1.3.0", "root": {"path": "/b/rootfs"}, "linux": linux, "mounts": [mount]});
    let mut spec: Spec = serde_json::from_value(raw.clone()).unwrap();
    let bundle = Bundle {
        path: "/b".into(),
        rootfs: "/b/rootfs".into(),
        spec: spec.clone(),
        raw,
        remarks: Vec::new(),
    };
    let shares = share_binds("c", &bundle, &mut spec, true)?;
    let mount = spec.mounts().as_ref().unwrap()[0].clone();
    Ok((shares, mount))
}

fn planned(mount: &Value) -> (Vec<Share>, Mount) {
    planned_with(&json!({}), mount).unwrap()
}

fn source_of(source: &str) -> (usize, String) {
    let (shares, mount) =
        planned(&json!({"destination": "/d", "source": source, "options": ["bind"]}));
    let source = mount.source().as_ref().unwrap().display().to_string();
    (shares.len(), source)
}

#[test]
fn what_a_kernel_shows_is_of_the_guest() {
    for own in [
        "/proc",
        "/sys/fs/cgroup",
        "/dev",
        "/dev/null",
        "/x/../dev/shm",
    ] {
        assert_eq!(source_of(own).0, 0, "{own}");
    }
    assert_eq!(source_of("/dev/null").1, "/dev/null");
    for of_host in ["/devices", "/dev/shm/segment", "/processes", "data"] {
        let shared = (1, "/run/caisson/share/c/mounts/0".to_owned());
        assert_eq!(source_of(of_host), shared, "{of_host}");
    }
}

#[test]
fn a_source_in_the_root_is_of_the_container() {
    let inside = |path: &str| (0, format!("/run/caisson/share/c/rootfs/{path}"));
    assert_eq!(source_of("rootfs/a/b"), inside("a/b"));
    assert_eq!(source_of("/b/rootfs/x"), inside("x"));
    assert_eq!(source_of("/b/rootfs2").0, 1);
}

#[test]
fn what_an_earlier_mount_has_brought_is_of_the_container() {
    let raw = |read_only: bool, maps: Value| {
        json!({"ociVersion": "1.3.0", "root": {"path": "/b/rootfs", "readonly": read_only}, "linux": {}, "mounts": [
            {"destination": "/m", "type": "tmpfs"},
            {"destination": "/x", "source": "rootfs/m/a", "options": ["bind"], "uidMappings": maps, "gidMappings": maps},
            {"destination": "/y", "source": "rootfs/other", "options": ["bind"]},
        ]})
    };
    let planned = |read_only, maps| {
        let raw = raw(read_only, maps);
        let mut spec: Spec = serde_json::from_value(raw.clone()).unwrap();
        let bundle = Bundle {
            path: "/b".into(),
            rootfs: "/b/rootfs".into(),
            spec: spec.clone(),
            raw,
            remarks: Vec::new(),
        };
        let shares = share_binds("c", &bundle, &mut spec, true);
        shares.map(|shares| shares.into_iter().map(|share| share.source).collect())
    };
    let none: Vec<PathBuf> = Vec::new();
    assert_eq!(planned(false, json!([])), Ok(none));
    assert_eq!(planned(true, json!([])), Ok(vec!["/b/rootfs/other".into()]));
    let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    let refused = planned(false, map).unwrap_err().to_string();
    assert!(refused.contains("/x: the ids of what another mount has made"));
}

#[test]
fn a_destination_is_below_the_root_however_it_is_spelled() {
    for spelled in ["/tmp/d", "tmp/d", "/b/rootfs/tmp/d"] {
        let (_, mount) = planned(&json!({"destination": spelled, "type": "tmpfs"}));
        assert_eq!(mount.destination(), Path::new("/tmp/d"));
    }
}

#[test]
fn a_mount_that_changes_another_shares_nothing() {
    let mount = json!({"destination": "/d", "type": "bind", "options": ["remount", "bind", "ro"]});
    assert_eq!(planned(&mount).0, []);
}

#[test]
fn the_last_word_about_writing_counts() {
    for (options, access) in [
        (&["rbind", "ro"][..], Access::ReadOnlyItself),
        (&["rbind", "rro"], Access::ReadOnly),
        (&["rbind", "ro", "rro"], Access::ReadOnly),
        (&["rbind", "ro", "rw"], Access::AsMounted),
        (&["rro", "rbind", "rrw"], Access::AsMounted),
        (&["rw", "rbind", "ro", "rprivate"], Access::ReadOnlyItself),
    ] {
        let (shares, _) = planned(&json!({"destination": "/d", "source": "s", "options": options}));
        assert_eq!(shares[0].access, access, "{options:?}");
        assert!(shares[0].recursive);
    }
}

#[test]
fn ids_are_mapped_as_the_mount_or_else_the_container_says() {
    let map = |host: u32| json!([{"containerID": 0, "hostID": host, "size": 10}]);
    let linux = json!({"uidMappings": map(1000), "gidMappings": map(2000)});
    let mount = |more: Value| {
        let mut mount = json!({"destination": "/d", "source": "s", "options": ["bind"]});
        for (name, value) in more.as_object().unwrap() {
            mount[name] = value.clone();
        }
        mount
    };
    let maps_of = |mount| planned_with(&linux, &mount).unwrap().0.remove(0).id_maps;
    let own = mount(json!({"uidMappings": map(3), "gidMappings": map(4)}));
    let wanted = |uids: &str, gids: &str, recursive| {
        Some(IdMaps {
            uids: uids.into(),
            gids: gids.into(),
            recursive,
        })
    };
    assert_eq!(maps_of(own), wanted("0 3 10\n", "0 4 10\n", false));
    let option = mount(json!({"options": ["rbind", "ridmap"]}));
    assert_eq!(maps_of(option), wanted("0 1000 10\n", "0 2000 10\n", true));
    assert_eq!(maps_of(mount(json!({}))), None);

    let refusal = |mount| planned_with(&json!({}), &mount).unwrap_err().to_string();
    let half = refusal(mount(json!({"uidMappings": map(3)})));
    assert_eq!(
        half,
        "mounts: /d: id-mapped mounts must have both UID and GID mappings specified"
    );
    let none = refusal(mount(json!({"options": ["bind", "idmap"]})));
    assert_eq!(none, half);
    let tmpfs = json!({"destination": "/d", "type": "tmpfs", "options": ["idmap"]});
    assert!(refusal(tmpfs).ends_with("only supported for bind-mounts"));
}
