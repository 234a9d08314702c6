//! The guest's own addresses, reached from the host: engines forward ports by dialling
//! localhost, or the container's address, in the container's network namespace.

use std::{net::IpAddr, time::Duration};

use caisson_protocol::server::agent::ConnectLocalRequest;
use tokio::{io::copy_bidirectional, net::TcpStream, time::timeout};

use crate::{
    failure::{Attempt, Failure},
    transport::Transport,
};

/// The guest itself accepts at once, unless its listener has a full queue.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let of_four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    of_four
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// Connects the two, and copies until both have ended.
///
/// # Errors
/// When no socket listens on the port.
pub(crate) async fn connect_local(
    request: &ConnectLocalRequest,
    transport: &Transport,
) -> Result<(), Failure> {
    let address = address(&request.address)
        .ok_or_else(|| Failure::Refused("no IP address to connect to".to_owned()))?;
    let port = u16::try_from(request.port).unwrap_or_default();
    let connecting = timeout(CONNECT_LIMIT, TcpStream::connect((address, port)));
    let Ok(connected) = connecting.await else {
        return Err(Failure::Refused(format!("port {port} does not answer")));
    };
    let mut here = connected.step("connect to a local port")?;
    let stream = transport.connect(request.stream_port).await;
    let mut there = stream.step("connect a stream")?;
    tokio::spawn(async move {
        // Either end may hang up.
        drop(copy_bidirectional(&mut here, &mut there).await);
    });
    Ok(())
}
