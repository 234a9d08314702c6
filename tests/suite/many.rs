//! Many at once, and many after each other: nothing is lost, nothing is left.

use std::process::Stdio;

use caisson_tests::{Machine, Scene, stories, wait};

stories![
    many_execs_at_once.limit(240),
    many_cycles_leave_nothing.limit(400),
    containers_live_side_by_side,
];

fn many_execs_at_once(scene: &Scene) {
    let full = match (scene.settings.machine, scene.settings.soak) {
        (Machine::Tcg, false) => 10,
        _ => 50,
    };
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let script = |number: usize| format!("read line; echo $line {number}; exit {number}");
    let mut execs: Vec<_> = (0..full)
        .map(|number| {
            let mut command = scene.command(["exec", &container.id, "sh", "-c", &script(number)]);
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    // All of them are there before the first may end.
    for exec in execs.iter_mut().rev() {
        std::io::Write::write_all(&mut exec.stdin.take().unwrap(), b"line\n").unwrap();
    }
    for (number, exec) in execs.into_iter().enumerate() {
        let output = exec.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(number.try_into().unwrap()));
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("line {number}\n")
        );
    }
    container.remove();
}

fn many_cycles_leave_nothing(scene: &Scene) {
    for _ in 0..scene.settings.count(200) {
        let container = scene.create(&scene.bundle(&["sleep", "1000"]));
        container.start();
        container.remove();
        scene.assert_nothing_is_left();
    }
}

fn containers_live_side_by_side(scene: &Scene) {
    let bundles = [
        scene.shell("read line; exit 1"),
        scene.shell("read line; exit 2"),
        scene.shell("read line; exit 3"),
    ];
    let (reader, writer) = std::io::pipe().unwrap();
    let containers: Vec<_> = bundles
        .iter()
        .map(|bundle| scene.create_with_input(bundle, reader.try_clone().unwrap().into()))
        .collect();
    containers.iter().for_each(|container| container.start());
    containers[1].verb("kill", &["KILL"]).ok();
    assert_eq!(containers[1].wait(), 137);
    containers[0].assert_status("running");
    // The end of the input they share ends the others.
    drop((reader, writer));
    assert_eq!(wait::exit_code_of(containers[0].pid), 1);
    assert_eq!(wait::exit_code_of(containers[2].pid), 3);
    containers.iter().for_each(|container| container.delete());
}
