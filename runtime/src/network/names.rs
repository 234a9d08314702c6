//! Name servers on the loopback of a container's namespace: which there are, and
//! asking them for the guest.
//!
//! The agent connects here with a question; its answer is passed on as it came. Only
//! servers that the container was told of are asked, whatever a guest wishes.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use caisson_protocol::{NAMES_DATAGRAM, NAMES_STREAM};

/// Port of DNS.
const DNS: u16 = 53;
/// A server that is silent for so long, or a guest, is given up.
const LIMIT: Duration = Duration::from_secs(20);
/// Longest datagram.
const MAX_DATAGRAM_LEN: usize = 65_535;

/// The servers on loopback that a resolv.conf(5) names.
pub(crate) fn on_loopback(resolv_conf: &Path) -> Vec<Ipv4Addr> {
    let text = fs::read_to_string(resolv_conf).unwrap_or_default();
    parse(&text)
}

fn parse(text: &str) -> Vec<Ipv4Addr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver");
        address.and_then(|_| words.next()?.parse::<Ipv4Addr>().ok())
    });
    let mut all: Vec<Ipv4Addr> = servers.filter(Ipv4Addr::is_loopback).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Serves one connection of the agent; `known` are the servers it may name.
///
/// # Errors
/// When either side hangs up or is silent for too long.
pub(crate) fn serve(mut agent: UnixStream, known: &[Ipv4Addr]) -> io::Result<()> {
    agent.set_read_timeout(Some(LIMIT))?;
    agent.set_write_timeout(Some(LIMIT))?;
    let [a, b, c, d, kind] = read(&mut agent)?;
    let server = Ipv4Addr::new(a, b, c, d);
    if !known.contains(&server) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    match kind {
        NAMES_DATAGRAM => ask(&mut agent, server),
        NAMES_STREAM => pass_on(agent, server),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn read<const LEN: usize>(agent: &mut UnixStream) -> io::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    agent.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn ask(agent: &mut UnixStream, server: Ipv4Addr) -> io::Result<()> {
    let length = u16::from_be_bytes(read(agent)?);
    let mut message = vec![0; length.into()];
    agent.read_exact(&mut message)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.connect((server, DNS))?;
    socket.send(&message)?;
    message.resize(MAX_DATAGRAM_LEN, 0);
    let length = socket.recv(&mut message)?;
    message.truncate(length);
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    agent.write_all(&length.to_be_bytes())?;
    agent.write_all(&message)
}

fn pass_on(mut agent: UnixStream, server: Ipv4Addr) -> io::Result<()> {
    let mut there = TcpStream::connect((server, DNS))?;
    there.set_read_timeout(Some(LIMIT))?;
    there.set_write_timeout(Some(LIMIT))?;
    let (mut back, mut from_server) = (agent.try_clone()?, there.try_clone()?);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // The other direction says how it ended.
            io::copy(&mut from_server, &mut back).ok();
            back.shutdown(Shutdown::Both).ok();
        });
        io::copy(&mut agent, &mut there)?;
        there.shutdown(Shutdown::Write)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_on_loopback_need_help() {
        let text = "# comment\nsearch x\nnameserver 127.0.0.11\nnameserver 9.9.9.9\n\
                    nameserver ::1\noptions ndots:0\nnameserver\nnameserver 127.0.0.11";
        assert_eq!(parse(text), [Ipv4Addr::new(127, 0, 0, 11)]);
    }

    #[test]
    fn a_server_that_the_container_was_not_told_of_is_not_asked() {
        let (ours, mut agents) = UnixStream::pair().unwrap();
        agents.write_all(&[127, 0, 0, 1, NAMES_DATAGRAM]).unwrap();
        let refused = serve(ours, &[Ipv4Addr::new(127, 0, 0, 11)]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }
}
