//! `pause` freezes what runs in a container, `resume` lets it go on, and the
//! other verbs know of it.

use std::io::Read;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::Duration;

use caisson_tests::{Scene, stories, wait};

stories![
    a_paused_container_stands_still_until_it_is_resumed,
    what_would_wait_for_ever_is_refused_while_paused,
    an_exec_that_ignores_the_pause_begins_with_the_resumption,
    a_paused_container_can_be_killed_and_deleted,
    a_created_container_is_created_again_after_a_pause,
];

/// Ample for ten ticks, and for what is still on its way after a pause.
const QUIET: Duration = Duration::from_secs(1);
const FAR: Duration = Duration::from_secs(60);

fn a_paused_container_stands_still_until_it_is_resumed(scene: &Scene) {
    let bundle = scene.shell("while true; do echo tick; sleep 0.1; done");
    let (mut ticks, writer) = std::io::pipe().unwrap();
    let streams = [Stdio::null(), writer.into(), Stdio::null()];
    let container = scene.create_with_streams(&bundle, streams);
    container.start();
    assert!(wait::readable_within(ticks.as_fd(), FAR), "it ticks");
    container.verb("pause", &[]).ok();
    container.assert_status("paused");
    let mut room = [0; 4096];
    while wait::readable_within(ticks.as_fd(), QUIET) {
        let length = ticks.read(&mut room).unwrap();
        assert!(length < room.len(), "it ticks while it is paused");
    }
    container.verb("resume", &[]).ok();
    container.assert_status("running");
    assert!(wait::readable_within(ticks.as_fd(), FAR), "it ticks again");
    container.remove();
}

fn what_would_wait_for_ever_is_refused_while_paused(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    let id = &container.id;
    let not_paused = "container not paused";
    container.verb("resume", &[]).fails(1, not_paused);
    container.verb("pause", &[]).ok();
    container
        .verb("pause", &[])
        .fails(1, "container not running");
    container.exec(&["true"]).fails(
        255,
        "cannot exec in a paused container (use --ignore-paused to override)",
    );
    container
        .verb("start", &[])
        .fails(1, "cannot start a container in the paused state");
    container.verb("delete", &[]).fails(
        1,
        &format!("cannot delete container {id} that is not stopped: paused"),
    );
    // What needs no processor time inside works.
    assert!(container.verb("ps", &[]).ok().contains("sleep 1000"));
    container.verb("resume", &[]).ok();
    container.verb("resume", &[]).fails(1, not_paused);
    assert_eq!(container.exec(&["echo", "again"]).ok(), "again\n");
    container.remove();
    for verb in ["pause", "resume"] {
        let missing = format!("container does not exist: {id}");
        scene.caisson([verb, id]).fails(1, &missing);
    }
}

fn an_exec_that_ignores_the_pause_begins_with_the_resumption(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    container.verb("pause", &[]).ok();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = scene.command(["exec", "--ignore-paused", &container.id, "echo", "late"]);
    let mut exec = command.stdout(writer).spawn().unwrap();
    drop(command);
    assert!(
        !wait::readable_within(reader.as_fd(), QUIET),
        "it runs while the container is paused"
    );
    container.verb("resume", &[]).ok();
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(said, "late\n");
    assert!(exec.wait().unwrap().success());
    container.remove();
}

fn a_paused_container_can_be_killed_and_deleted(scene: &Scene) {
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    container.verb("pause", &[]).ok();
    container.remove();
    let container = scene.started(&scene.bundle(&["sleep", "1000"]));
    container.verb("pause", &[]).ok();
    scene.caisson(["delete", "--force", &container.id]).ok();
    assert_eq!(container.wait(), 137);
}

fn a_created_container_is_created_again_after_a_pause(scene: &Scene) {
    let container = scene.create(&scene.bundle(&["sleep", "1000"]));
    container.verb("pause", &[]).ok();
    container.assert_status("paused");
    container.verb("resume", &[]).ok();
    container.assert_status("created");
    container.start();
    container.remove();
}
