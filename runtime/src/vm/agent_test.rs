//! The agent's calls, with a guest at the other end that answers what it likes.

use std::io::{Read, Write};
use std::sync::mpsc::{self, Receiver};

use super::*;

/// A guest that answers the calls of each name with the next payload given for it; one
/// for which there is none is not answered.
fn guest(mut answers: Vec<(&'static str, Vec<u8>)>) -> (Agent, Receiver<Event>) {
    let (near, far) = UnixStream::pair().unwrap();
    answers.push(("Hello", vec![0x08, 2]));
    std::thread::spawn(move || serve(far, answers));
    let (tell, told) = mpsc::sync_channel(1);
    (
        Agent::connect(near, Token::random().unwrap(), tell).unwrap(),
        told,
    )
}

/// Until the other end is closed, or a call has an empty name as its answer's.
fn serve(mut far: UnixStream, mut answers: Vec<(&'static str, Vec<u8>)>) {
    let mut head = [0; 10];
    while far.read_exact(&mut head).is_ok() {
        let length = u32::from_be_bytes(head[..4].try_into().unwrap());
        let mut body = vec![0; length as usize];
        far.read_exact(&mut body).unwrap();
        let method = ttrpc::Request::parse_from_bytes(&body).unwrap().method;
        let Some(at) = answers.iter().position(|(name, _)| *name == method) else {
            continue;
        };
        let response = ttrpc::Response {
            payload: answers.remove(at).1,
            ..Default::default()
        };
        let body = response.write_to_bytes().unwrap();
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(&head[4..8]);
        frame.extend([2, 0]);
        frame.extend(body);
        if far.write_all(&frame).is_err() {
            return;
        }
    }
}

#[test]
fn millions_of_processes_are_refused_before_they_are_built() {
    // Empty ones: two bytes each, and in 4 MiB two million.
    let bomb = [0x0a, 0].repeat(2 << 20);
    let as_many_as_fit = [0x0a, 0].repeat(agent_answers::MAX_PROCESSES_FRAME_LEN / 2 - 8);
    let (agent, _told) = guest(vec![
        ("ListProcesses", bomb),
        ("ListProcesses", as_many_as_fit),
    ]);
    let too_long = Error::Nonsense("it is too long".into());
    assert_eq!(agent.processes("c"), Err(too_long));
    let too_many = Error::Nonsense("more than 16384 processes".into());
    assert_eq!(agent.processes("c"), Err(too_many));
}

#[test]
fn millions_of_devices_are_refused_before_they_are_built() {
    let bomb = [0x3a, 0].repeat(2 << 20);
    let as_many_as_fit = [0x3a, 0].repeat(agent_answers::MAX_STATISTICS_FRAME_LEN / 2 - 8);
    let (agent, _told) = guest(vec![
        ("GetStatistics", bomb),
        ("GetStatistics", as_many_as_fit),
    ]);
    let too_long = Error::Nonsense("it is too long".into());
    assert_eq!(agent.statistics("c"), Err(too_long));
    let too_many = Error::Nonsense("more than 256 block devices".into());
    assert_eq!(agent.statistics("c"), Err(too_many));
}

#[test]
fn an_event_of_four_mib_is_not_one() {
    let (agent, _told) = guest(vec![("NextEvent", vec![0x1a; 4 << 20])]);
    let refused = agent.next_event(0);
    assert_eq!(refused, Err(Error::Nonsense("it is too long".into())));
}

#[test]
fn a_guest_that_hangs_up_is_told_of_and_its_calls_are_lost() {
    let (near, far) = UnixStream::pair().unwrap();
    let (tell, told) = mpsc::sync_channel(1);
    let hello = vec![("Hello", vec![0x08, 2])];
    let served = far.try_clone().unwrap();
    std::thread::spawn(move || serve(served, hello));
    let agent = Agent::connect(near, Token::random().unwrap(), tell).unwrap();
    far.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(agent.next_event(0), Err(Error::Lost));
    assert!(matches!(told.recv(), Ok(Event::AgentGone(Error::Lost))));
    assert!(!agent.is_back());
}

#[test]
fn an_agent_of_another_version_is_refused_by_name() {
    let (near, far) = UnixStream::pair().unwrap();
    std::thread::spawn(move || serve(far, vec![("Hello", vec![0x08, 9])]));
    let (tell, _told) = mpsc::sync_channel(1);
    let refused = Agent::connect(near, Token::random().unwrap(), tell)
        .map(drop)
        .unwrap_err();
    assert!(
        refused.to_string().contains("different protocols"),
        "{refused}"
    );
}
