//! The rule as plain data, and the table against its page and against the code.

use std::fmt::Write;
use std::path::Path;

use MachineChoice::{Auto, Kvm, Tcg};

use super::*;

const BOUNDS: Bounds = Bounds {
    machine: Auto,
    emulation: false,
    max_mem_mib: 1024,
    max_vcpus: 4,
    kernels: Vec::new(),
    groups: true,
};

fn annotations(pairs: &[(&str, &str)]) -> Annotations {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

/// Every configuration with every wish: what is chosen, or nothing.
#[test]
fn a_machine_is_chosen_among_what_the_configuration_allows() {
    let cases = [
        // machine, emulation allowed; then what auto, kvm and tcg come to.
        ((Kvm, false), [Some(Kvm), Some(Kvm), None]),
        ((Auto, false), [Some(Auto), Some(Kvm), None]),
        ((Auto, true), [Some(Auto), Some(Kvm), Some(Tcg)]),
        ((Tcg, true), [Some(Auto), Some(Kvm), Some(Tcg)]),
    ];
    for ((machine, emulation), wanted) in cases {
        let bounds = Bounds {
            machine,
            emulation,
            ..BOUNDS
        };
        let none = bounds.machine(&Annotations::new());
        assert_eq!(none, Ok(machine));
        let chosen = ["auto", "kvm", "tcg"]
            .map(|request| bounds.machine(&annotations(&[(MACHINE, request)])).ok());
        assert_eq!(chosen, wanted, "{machine:?}, emulation: {emulation}");
    }
}

#[test]
fn a_wish_beyond_the_bounds_is_refused_by_its_name() {
    let of = |request| BOUNDS.machine(&annotations(&[(MACHINE, request)]));
    let err = of("tcg").unwrap_err().to_string();
    assert!(
        err.starts_with("annotation dev.caisson.machine: tcg is not allowed on this host: "),
        "{err}"
    );
    let err = of("xen").unwrap_err().to_string();
    let wanted = "annotation dev.caisson.machine: \"xen\" is not a machine: use auto, kvm or tcg";
    assert_eq!(err, wanted);
    assert_eq!(BOUNDS.vcpus("x", 4), Ok(4));
    let err = BOUNDS.vcpus("x", 5).unwrap_err().to_string();
    assert!(err.starts_with("x: a machine has 1 to 4 vCPUs, not 5; `max_vcpus`"));
    assert_eq!(BOUNDS.mem_mib("x", 1 << 30, 64), Ok(1024));
    BOUNDS.mem_mib("x", (1 << 30) + 1, 64).unwrap_err();
    BOUNDS.mem_mib("x", 1, 64).unwrap_err();
    let kernel = PathBuf::from("/boot/mine");
    BOUNDS.kernel(kernel.clone()).unwrap_err();
    let bounds = Bounds {
        kernels: vec![kernel.clone()],
        ..BOUNDS
    };
    assert_eq!(bounds.kernel(kernel.clone()), Ok(kernel));
}

#[test]
fn a_machine_is_shared_only_by_the_word_of_both() {
    let group = |name| annotations(&[(GROUP, name)]);
    let runc = annotations(&[(RUNC_GROUP, "g")]);
    let alone = Annotations::new();
    let pod = |id| annotations(&[("io.kubernetes.cri.sandbox-id", id), (GROUP, "other")]);
    let join = |joining: &Annotations, first: &Annotations| BOUNDS.join(joining, "web1", first);
    assert_eq!(join(&group("g"), &group("g")), Ok(()));
    assert_eq!(join(&runc, &group("g")), Ok(()));
    assert_eq!(join(&pod("p"), &pod("p")), Ok(()));
    // A container's own name is a group as long as it names none.
    let err = join(&group("web1"), &alone).unwrap_err().to_string();
    let wanted = "annotation dev.caisson.group: the machine of web1 is not of the group \"web1\": its own annotations have to say so too";
    assert_eq!(err, wanted);
    join(&group("p"), &pod("p")).unwrap_err();
    let forbidding = Bounds {
        groups: false,
        ..BOUNDS
    };
    let err = forbidding.join(&runc, "web1", &runc).unwrap_err();
    assert_eq!(err, Refused::Groups(RUNC_GROUP));
    assert_eq!(forbidding.join(&pod("p"), "web1", &pod("p")), Ok(()));
}

#[test]
fn a_mistyped_annotation_of_ours_is_told() {
    let all = annotations(&[("dev.caisson.machin", "kvm"), (MACHINE, "kvm"), ("a", "b")]);
    let told: Vec<_> = unknown(&all).iter().map(ToString::to_string).collect();
    let wanted = "annotation dev.caisson.machin is not known, and changes nothing";
    assert_eq!(told, [wanted]);
}

#[test]
fn the_table_has_every_annotation_that_is_read() {
    let keys: Vec<_> = TABLE.iter().map(|row| row.key).collect();
    let systemd = format!("{SYSTEMD_PREFIX}*");
    for key in GROUPS.into_iter().chain([MACHINE, systemd.as_str()]) {
        assert!(keys.contains(&key), "{key}");
    }
}

const HEAD: &str = "\
# Annotations

Annotations of config.json that caisson reads. Whoever writes them need not be the
administrator of the host: a Docker user does with `--annotation`, and a pod's author
where containerd's `pod_annotations` or CRI-O's `allowed_annotations` let them through.
So there is one rule for all that touches the barrier between containers and the host:

**An annotation chooses only among what `config.toml` allows.** One that asks for
more is refused, by its name, before anything is started. None can widen what is allowed.

The same rule holds for `vm` of config.json: `vm.hwConfig.vcpus` up to `max_vcpus`,
`vm.hwConfig.memory` up to `max_mem_mib`, `vm.kernel.path` among `allowed_kernels`.
Limits of a container or pod size its machine, too, and are no wish for more: a machine
that they would make larger than that gets what is allowed, and the log says so.
Nothing in config.json can turn `vhost_net` on, or change `qemu`, `file_cache` or
`prefix`.

An annotation below `dev.caisson.` that is not in this table changes nothing, and the log
says so; all others are kept in the state and otherwise left alone, as the specification
wants.

Written from the table in `runtime/src/annotations.rs` by
`BLESS=1 cargo test -p caisson annotations`.

| annotation | meaning | within |
|---|---|---|
";

#[test]
fn the_page_is_printed_from_the_table() {
    let mut page = HEAD.to_owned();
    for row in TABLE {
        writeln!(page, "| `{}` | {} | {} |", row.key, row.meaning, row.within).unwrap();
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/annotations.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page,
        "docs/annotations.md is not what the table says: BLESS=1 cargo test -p caisson annotations"
    );
}
