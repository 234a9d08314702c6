//! Both ends of a TCP connection whose bytes are known, for tests and in containers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

/// Gives every connection back what it sends, until the process ends.
pub(crate) fn serve(listener: &TcpListener) -> String {
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || give_back(stream));
    }
    String::new()
}

fn give_back(mut stream: TcpStream) {
    let mut sink = stream.try_clone().unwrap();
    // Whoever hangs up early has its reasons.
    if std::io::copy(&mut stream, &mut sink).is_ok() {
        sink.shutdown(Shutdown::Write).ok();
    }
}

/// Sends so many bytes to a server of `serve`, and compares what comes back.
pub(crate) fn talk(address: &str, bytes: usize) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut sink = stream.try_clone().unwrap();
    let sent: Vec<u8> = (0..bytes)
        .map(|n| (n ^ (n >> 8) ^ (n >> 16)).to_le_bytes()[0])
        .collect();
    let wanted = sent.clone();
    let sender = std::thread::spawn(move || {
        sink.write_all(&sent).unwrap();
        sink.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    sender.join().unwrap();
    assert!(
        received == wanted,
        "{} bytes came back, or others",
        received.len()
    );
    format!("{} bytes", received.len())
}
