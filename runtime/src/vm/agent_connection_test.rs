//! A call is answered, given up or lost, whatever stands at the other end of the
//! connection, and nothing of it is kept.

use std::sync::mpsc::Receiver;

use super::*;

const CALL: Call = Call {
    method: "Method",
    limit: Some(Duration::from_secs(60)),
    max_answer_len: 1000,
};

/// A link, the other end of its connection, and where it tells that it is over.
fn linked() -> (Link, UnixStream, Receiver<()>) {
    let (near, far) = UnixStream::pair().unwrap();
    let (sender, over) = mpsc::channel();
    let link = Link::new(move || sender.send(()).unwrap());
    link.attach(near, None).unwrap();
    (link, far, over)
}

/// The next request: the number of its stream, and itself.
fn request(mut far: &UnixStream) -> (u32, ttrpc::Request) {
    let mut head = [0; HEAD_LEN];
    far.read_exact(&mut head).unwrap();
    let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
    let mut body = vec![0; number(0) as usize];
    far.read_exact(&mut body).unwrap();
    (number(4), ttrpc::Request::parse_from_bytes(&body).unwrap())
}

fn head(length: usize, id: u32, kind: u8) -> Vec<u8> {
    let mut head = u32::try_from(length).unwrap().to_be_bytes().to_vec();
    head.extend(id.to_be_bytes());
    head.extend([kind, 0]);
    head
}

fn answer(mut far: &UnixStream, id: u32, body: &[u8]) {
    let mut frame = head(body.len(), id, RESPONSE);
    frame.extend(body);
    far.write_all(&frame).unwrap();
}

fn asked(link: &Link) -> Receiver<Result<Vec<u8>, Unanswered>> {
    let (link, (sender, answer)) = (link.clone(), mpsc::channel());
    std::thread::spawn(move || sender.send(link.call(CALL, b"question".to_vec())));
    answer
}

#[test]
fn each_call_gets_its_own_answer_in_whatever_order_they_come() {
    let (link, far, _over) = linked();
    let first = asked(&link);
    let (first_id, request_of_first) = request(&far);
    assert_eq!(request_of_first.method, "Method");
    assert_eq!(request_of_first.payload, b"question");
    assert_eq!(request_of_first.timeout_nano, 60_000_000_000);
    let second = asked(&link);
    let (second_id, _) = request(&far);
    answer(&far, second_id, b"2");
    assert_eq!(second.recv().unwrap(), Ok(b"2".to_vec()));
    answer(&far, first_id, b"1");
    assert_eq!(first.recv().unwrap(), Ok(b"1".to_vec()));
}

#[test]
fn what_is_too_long_or_unasked_for_is_thrown_away_and_the_next_answer_read() {
    let (link, far, _over) = linked();
    for wrong in [
        // As long as it can be said, most of which never comes.
        |id| (id, 1001, RESPONSE),
        |id| (id, 4 << 20, RESPONSE),
        |id| (id, 10, REQUEST),
    ] {
        let asked = asked(&link);
        let (id, length, kind) = wrong(request(&far).0);
        (&far).write_all(&head(length, id, kind)).unwrap();
        assert_eq!(asked.recv().unwrap(), Err(Unanswered::TooLong));
        (&far).write_all(&vec![7; length]).unwrap();
    }
    answer(&far, 4711, &[7; 10_000]);
    let asked = asked(&link);
    answer(&far, request(&far).0, b"yes");
    assert_eq!(asked.recv().unwrap(), Ok(b"yes".to_vec()));
    assert!(link.shared.lock().waiting.is_empty());
}

#[test]
fn a_call_that_is_given_up_leaves_nothing_behind() {
    let (link, far, _over) = linked();
    let brief = Call {
        limit: Some(Duration::from_millis(1)),
        ..CALL
    };
    // More than the socket holds of an agent that doesn't read.
    for _ in 0..100 {
        let given_up = link.call(brief, vec![0; 1 << 20]);
        assert_eq!(given_up, Err(Unanswered::Silent));
    }
    let state = link.shared.lock();
    assert!(state.waiting.is_empty() && state.unsent.is_empty());
    drop((state, far));
    let too_long = link.call(brief, vec![0; MAX_REQUEST_LEN]);
    assert_ne!(too_long, Err(Unanswered::Silent));
}

#[test]
fn a_connection_that_is_lost_ends_calls_at_once_and_another_takes_its_place() {
    let (link, far, over) = linked();
    let asked_before = asked(&link);
    request(&far);
    drop(far);
    assert_eq!(asked_before.recv().unwrap(), Err(Unanswered::Lost));
    assert_eq!(link.call(CALL, Vec::new()), Err(Unanswered::Lost));
    let (near, far) = UnixStream::pair().unwrap();
    let first = Call {
        method: "Hello",
        ..CALL
    };
    link.attach(near, Some((first, Vec::new()))).unwrap();
    assert!(link.is_attached_again());
    let asked_after = asked(&link);
    let (hello_id, hello) = request(&far);
    assert_eq!(hello.method, "Hello");
    answer(&far, hello_id, b"hello");
    answer(&far, request(&far).0, b"yes");
    assert_eq!(asked_after.recv().unwrap(), Ok(b"yes".to_vec()));
    // Whoever else connects is hung up on.
    let (near, mut stranger) = UnixStream::pair().unwrap();
    link.attach(near, None).unwrap();
    assert_eq!(stranger.read(&mut [0]).unwrap(), 0);
    // And with no other one it is over.
    drop(far);
    over.recv().unwrap();
    assert!(!link.is_attached_again());
}

#[test]
fn hanging_up_is_no_loss() {
    let (link, mut far, over) = linked();
    link.hang_up();
    assert_eq!(far.read(&mut [0]).unwrap(), 0);
    assert_eq!(link.call(CALL, Vec::new()), Err(Unanswered::Lost));
    drop(link);
    assert!(over.recv().is_err(), "it was told that it is over");
}
