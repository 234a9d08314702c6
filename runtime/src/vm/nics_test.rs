//! What a machine on KVM is asked for, with a test in its place.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Sender, channel};

use super::*;

fn network() -> (Plugged, UnixDatagram, Sender<Report>) {
    let (control, far) = UnixDatagram::pair().unwrap();
    let (answers, answered) = channel();
    let offer = Offer {
        most: 6,
        queue_pairs: 1,
        vhost: false,
    };
    (Plugged::new(control.into(), answered, offer), far, answers)
}

fn next_request(far: &UnixDatagram) -> Request {
    let mut packet = [0; 1024];
    let length = far.recv(&mut packet).unwrap();
    serde_json::from_slice(&packet[..length]).unwrap()
}

#[test]
fn every_device_has_an_address_of_its_own() {
    let (mut network, far, answers) = network();
    let machine = std::thread::spawn(move || {
        let answer = |slot| {
            let request = next_request(&far);
            answers.send(Report::Done { slot: Some(slot) }).unwrap();
            request
        };
        [0, 1, 2].map(answer)
    });
    let nics = [10, 11, 12].map(|tap| network.plug_tap("eth0".to_owned(), tap, &[]).unwrap());
    let requests = machine.join().unwrap();
    let mut addresses = BTreeSet::new();
    for (nic, request) in nics.iter().zip(requests) {
        let (mac, vhost) = (nic.device_mac, false);
        assert_eq!(request, Request::PlugNet { mac, vhost });
        assert_eq!(nic.tap, u32::from(nic.slot) + 10);
        assert!(addresses.insert(mac), "{nics:?}");
    }
}

/// It would be taken for that to another request.
#[test]
fn an_answer_that_comes_too_late_is_nobodys() {
    let (mut network, far, answers) = network();
    answers.send(Report::Done { slot: Some(9) }).unwrap();
    network.limit = Duration::from_millis(1);
    let mut plug = || network.plug_tap("eth0".to_owned(), 7, &[]);
    let refused = plug().unwrap_err().to_string();
    assert!(refused.ends_with("does not answer"), "{refused}");
    assert!(matches!(next_request(&far), Request::PlugNet { .. }));
    answers.send(Report::Done { slot: Some(0) }).unwrap();
    let refused = plug().unwrap_err().to_string();
    assert!(refused.contains("has not answered before"), "{refused}");
    // Nothing more is asked.
    far.set_nonblocking(true).unwrap();
    assert!(far.recv(&mut [0; 16]).is_err());
}
