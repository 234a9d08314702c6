//! What the agent answers is read as the protocol's own library writes it, and no
//! bytes at all become more memory than is stated.

use caisson_protocol::client::agent;
use protobuf::Message;

use super::*;

fn written(message: &impl Message) -> Vec<u8> {
    message.write_to_bytes().unwrap()
}

#[test]
fn answers_are_read_as_they_were_written() {
    let process = agent::Process {
        pid: 7,
        parent_pid: 1,
        uid: 1000,
        cpu_ms: 12,
        started_unix_ns: u64::MAX,
        tty: "pts/0".into(),
        command: "sleep\n1000".into(),
        name: "sleep".into(),
        state: "S".into(),
        virtual_kib: 100,
        resident_kib: 10,
        ..Default::default()
    };
    let list = agent::ListProcessesResponse {
        processes: vec![process.clone(), process],
        ..Default::default()
    };
    let read = processes(&written(&list)).unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!((read[1].pid, read[1].started_unix_ns), (7, u64::MAX));
    assert_eq!(read[1].command, "sleep?1000");
    assert_eq!((read[1].state.as_str(), read[1].resident_kib), ("S", 10));

    let exited = Kind::Exited(Exited {
        container_id: "c".into(),
        exec_id: "e".into(),
        status: 137,
        exited_unix_ns: 1,
        stdout_bytes: 2,
        stderr_bytes: u64::MAX,
        stdout_held: true,
        stderr_held: true,
        ..Default::default()
    });
    let event = agent::Event {
        number: 4,
        kind: Some(exited.clone()),
        ..Default::default()
    };
    let kind = Some(exited);
    assert_eq!(news(&written(&event)), Ok(News { number: 4, kind }));
}

#[test]
fn statistics_are_read_as_they_were_written() {
    let line = PressureLine {
        avg60: 1.5,
        total: 9,
        ..Default::default()
    };
    let pressure = Pressure {
        some: Some(line.clone()).into(),
        full: Some(line).into(),
        ..Default::default()
    };
    let counters = |name: &str| HashMap::from([(name.to_owned(), 3), ("other".to_owned(), 4)]);
    let all = Statistics {
        cpu: counters("usage_usec"),
        cpu_pressure: Some(pressure.clone()).into(),
        memory: Some(MemoryStatistics {
            current: 1,
            max: u64::MAX,
            peak: 2,
            swap_current: 3,
            swap_max: 4,
            stat: counters("anon"),
            events: counters("max"),
            ..Default::default()
        })
        .into(),
        memory_pressure: Some(pressure.clone()).into(),
        pids_current: 5,
        pids_max: 6,
        io: vec![IoStatistics {
            major: 254,
            minor: 1,
            counters: counters("rbytes"),
            ..Default::default()
        }],
        io_pressure: Some(pressure).into(),
        huge_pages: vec![HugePageStatistics {
            page_size: "2MB".into(),
            current: 1,
            max: 2,
            failures: 3,
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(statistics(&written(&all)), Ok(all));
}

#[test]
fn a_refusal_keeps_its_code_and_loses_what_is_too_long() {
    let mut status = ttrpc::proto::Status::new();
    status.set_code(ttrpc::Code::NOT_FOUND);
    status.set_message("x".repeat(100_000));
    let mut response = ttrpc::proto::Response::new();
    response.set_status(status);
    match payload(&written(&response)) {
        Err(Error::Refused { code: 5, message }) => assert_eq!(message.len(), MAX_REFUSAL_LEN),
        other => panic!("{other:?}"),
    }
    let mut response = ttrpc::proto::Response::new();
    response.payload = b"abc".to_vec();
    assert_eq!(payload(&written(&response)), Ok(&b"abc"[..]));
}

/// `count` fields of this number, each with these bytes.
fn repeated(number: u8, bytes: &[u8], count: usize) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
    field.extend_from_slice(bytes);
    field.repeat(count)
}

#[test]
fn ten_thousand_processes_are_listed_and_millions_are_not() {
    let process = repeated(7, &[b'x'; 60], 1);
    let many = repeated(1, &process, 10_000);
    assert!(many.len() < MAX_PROCESSES_FRAME_LEN);
    assert_eq!(processes(&many).unwrap().len(), 10_000);
    let err = processes(&repeated(1, &[], 2 << 20)).unwrap_err();
    assert_eq!(err.to_string(), "more than 16384 processes");
    let text = repeated(1, &repeated(7, &[b'x'; 100], 1), 12_000);
    let err = processes(&text).unwrap_err();
    assert_eq!(err.to_string(), "more than 1048576 bytes of text");
}

#[test]
fn statistics_that_are_too_many_are_refused() {
    for (bytes, what) in [
        (repeated(7, &[], 1 << 20), "more than 256 block devices"),
        (
            repeated(9, &[], 1 << 20),
            "more than 16 sizes of huge pages",
        ),
        (
            repeated(9, &repeated(1, &[b'x'; 70], 1), 1),
            "more than 64 bytes of a name",
        ),
    ] {
        assert_eq!(statistics(&bytes).unwrap_err().to_string(), what);
    }
    let counters = (0..1000_u32).flat_map(|number| {
        let entry = repeated(1, &number.to_be_bytes(), 1);
        repeated(1, &entry, 1)
    });
    let err = statistics(&counters.collect::<Vec<u8>>()).unwrap_err();
    assert_eq!(err.to_string(), "more than 256 counters");
}

#[test]
fn what_is_not_known_is_passed_over() {
    let unknown = repeated(15, &[0; 100], 10_000);
    assert_eq!(nothing(&unknown), Ok(()));
    assert_eq!(major_version(&unknown), Ok(0));
    assert_eq!(statistics(&unknown), Ok(Statistics::default()));
    assert_eq!(news(&unknown), Ok(News::default()));
    assert_eq!(
        processes(&repeated(1, &repeated(15, &[0; 100], 1), 2))
            .unwrap()
            .len(),
        2
    );
}

/// Any bytes: an answer within its bounds or an error, and never a panic.
#[test]
fn random_bytes_stay_within_the_bounds() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..20_000 {
        let length = usize::try_from(random() % 64).unwrap();
        // Small numbers are tags and lengths, of which whole messages are made.
        let byte = |number: u64| {
            let most = if number & 256 == 0 { 16 } else { 256 };
            u8::try_from((number >> 16) % most).unwrap()
        };
        let bytes: Vec<u8> = (0..length).map(|_| byte(random())).collect();
        drop((
            payload(&bytes),
            nothing(&bytes),
            major_version(&bytes),
            unix_time_ns(&bytes),
            news(&bytes),
        ));
        drop((statistics(&bytes), processes(&bytes)));
    }
}
