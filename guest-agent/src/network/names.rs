//! Name servers on the loopback of the host's side, such as Docker's at 127.0.0.11.
//!
//! Nothing of that loopback exists in the guest, so the agent listens there in their
//! place, and forwards each query to the host. Owns no name and no cache.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket as StdUdpSocket},
    sync::Arc,
    time::Duration,
};

use caisson_protocol::{NAMES_DATAGRAM, NAMES_PORT, NAMES_STREAM};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
};

use crate::{
    failure::{Attempt, Failure},
    stream::Stream,
    transport::Transport,
};

/// Port of DNS.
const DNS: u16 = 53;
/// Queries under way at once; more are lost, as with any busy server.
const MOST_AT_ONCE: usize = 64;
/// Resolvers have given up by then.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Longest datagram.
const MAX_DATAGRAM_LEN: usize = 65_535;

/// Serves DNS in place of the name server at `address` from now on.
///
/// # Errors
/// When its port can't be listened on.
pub(super) fn serve(address: &[u8], transport: &Transport) -> Result<(), Failure> {
    let Ok(octets) = <[u8; 4]>::try_from(address) else {
        return Err(Failure::Refused(
            "a name server has no IPv4 address".to_owned(),
        ));
    };
    let place = (Ipv4Addr::from(octets), DNS);
    let datagrams = StdUdpSocket::bind(place).and_then(|socket| {
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    });
    let datagrams = datagrams.step("listen in a name server's place")?;
    let connections = std::net::TcpListener::bind(place).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    let connections = connections.step("listen in a name server's place")?;
    let host = NameServer {
        server: octets,
        transport: transport.clone(),
        permits: Arc::new(Semaphore::new(MOST_AT_ONCE)),
    };
    tokio::spawn(serve_datagrams(datagrams, host.clone()));
    tokio::spawn(serve_connections(connections, host));
    Ok(())
}

/// Forwards queries to one name server.
#[derive(Debug, Clone)]
struct NameServer {
    server: [u8; 4],
    transport: Transport,
    permits: Arc<Semaphore>,
}

impl NameServer {
    async fn connect(&self, kind: u8) -> io::Result<Stream> {
        let stream = self.transport.connect(NAMES_PORT).await?;
        let [a, b, c, d] = self.server;
        stream.write_all(&[a, b, c, d, kind]).await?;
        Ok(stream)
    }

    async fn query(&self, query: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = self.connect(NAMES_DATAGRAM).await?;
        let length = u16::try_from(query.len()).unwrap_or(u16::MAX);
        AsyncWriteExt::write_all(&mut stream, &length.to_be_bytes()).await?;
        AsyncWriteExt::write_all(&mut stream, query).await?;
        let mut reply = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut reply).await?;
        Ok(reply)
    }
}

async fn serve_datagrams(socket: UdpSocket, host: NameServer) {
    let socket = Arc::new(socket);
    let mut query = vec![0; MAX_DATAGRAM_LEN];
    loop {
        let Ok((length, resolver)) = socket.recv_from(&mut query).await else {
            // The ICMP error of an earlier reply whose resolver was gone.
            continue;
        };
        let Ok(permit) = Arc::clone(&host.permits).try_acquire_owned() else {
            continue;
        };
        let query = query.get(..length).unwrap_or_default().to_vec();
        let (socket, host) = (Arc::clone(&socket), host.clone());
        tokio::spawn(async move {
            let replied = tokio::time::timeout(ANSWER_LIMIT, host.query(&query)).await;
            if let Ok(Ok(reply)) = replied {
                // The resolver may be gone.
                drop(socket.send_to(&reply, resolver).await);
            }
            drop(permit);
        });
    }
}

async fn serve_connections(listener: TcpListener, host: NameServer) {
    loop {
        let Ok(permit) = Arc::clone(&host.permits).acquire_owned().await else {
            return;
        };
        let Ok((resolver, _)) = listener.accept().await else {
            continue;
        };
        let host = host.clone();
        tokio::spawn(async move {
            // Either end may hang up.
            drop(pass_on(resolver, &host).await);
            drop(permit);
        });
    }
}

async fn pass_on(mut resolver: TcpStream, host: &NameServer) -> io::Result<()> {
    let mut server = host.connect(NAMES_STREAM).await?;
    copy_bidirectional(&mut resolver, &mut server).await?;
    Ok(())
}
