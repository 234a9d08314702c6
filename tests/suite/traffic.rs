//! Both ends of a TCP connection, or of datagrams: whose bytes are known, for tests, and that carries
//! as many as it can, for benchmarks. Both run in containers, too.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::time::Instant;

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

/// Gives every datagram back, until the process ends.
pub(crate) fn serve_datagrams(address: &str) -> String {
    let socket = UdpSocket::bind(address).unwrap();
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(&buffer[..length], from).unwrap();
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

/// What one connection of a benchmark does with its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// The server takes them.
    Send,
    /// The server sends them.
    Receive,
    /// Each goes to the server and comes back before the next.
    Turns,
}

/// Bytes that go over at once.
const BLOCK_LEN: usize = 128 << 10;

/// Serves clients of `load` until the process ends.
pub(crate) fn serve_load(listener: &TcpListener) -> String {
    for stream in listener.incoming().flatten() {
        // Whoever hangs up early has its reasons.
        std::thread::spawn(move || answer_load(stream).ok());
    }
    String::new()
}

fn answer_load(mut stream: TcpStream) -> std::io::Result<()> {
    let mut order = [0; 9];
    stream.read_exact(&mut order)?;
    let [kind, count @ ..] = order;
    let count = usize::from_le_bytes(count);
    stream.set_nodelay(true)?;
    match kind {
        b'r' => send(&mut stream, count),
        b's' => {
            receive(&mut stream, count)?;
            stream.write_all(&[1])
        }
        _ => {
            let mut byte = [0];
            for _ in 0..count {
                stream.read_exact(&mut byte)?;
                stream.write_all(&byte)?;
            }
            Ok(())
        }
    }
}

fn send(stream: &mut TcpStream, count: usize) -> std::io::Result<()> {
    let block = vec![7; BLOCK_LEN];
    let mut left = count;
    while left > 0 {
        let now = left.min(BLOCK_LEN);
        stream.write_all(&block[..now])?;
        left -= now;
    }
    Ok(())
}

fn receive(stream: &mut TcpStream, count: usize) -> std::io::Result<()> {
    let mut block = vec![0; BLOCK_LEN];
    let mut left = count;
    while left > 0 {
        match stream.read(&mut block)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            now => left -= now,
        }
    }
    Ok(())
}

/// Puts so many bytes on the way to or from a server of `serve_load`, over
/// Runs `connections` at once, and returns how long all of it took, in microseconds.
pub(crate) fn load(address: &str, load: Load, count: usize, connections: usize) -> String {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| load_one(address, load, count / connections).unwrap());
        }
    });
    start.elapsed().as_micros().to_string()
}

fn load_one(address: &str, load: Load, count: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let kind = match load {
        Load::Send => b's',
        Load::Receive => b'r',
        Load::Turns => b't',
    };
    stream.write_all(&[&[kind][..], &count.to_le_bytes()].concat())?;
    match load {
        Load::Send => {
            send(&mut stream, count)?;
            stream.read_exact(&mut [0])
        }
        Load::Receive => receive(&mut stream, count),
        Load::Turns => {
            for _ in 0..count {
                stream.write_all(&[5])?;
                stream.read_exact(&mut [0])?;
            }
            Ok(())
        }
    }
}
