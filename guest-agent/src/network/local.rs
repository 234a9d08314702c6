//! The guest's loopback, reached from the host: engines forward ports by dialling
//! localhost in the container's namespace.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use caisson_protocol::server::agent::ConnectLocalRequest;
use tokio::{io::copy_bidirectional, net::TcpStream, time::timeout};

use crate::{
    failure::{Attempt, Failure},
    transport::Transport,
};

/// Loopback answers at once, unless its listener has a full queue.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Connects the two, and copies until both have ended.
///
/// # Errors
/// When nobody listens on the port.
pub(crate) async fn connect_local(
    request: &ConnectLocalRequest,
    transport: &Transport,
) -> Result<(), Failure> {
    let address: IpAddr = if request.ipv6 {
        Ipv6Addr::LOCALHOST.into()
    } else {
        Ipv4Addr::LOCALHOST.into()
    };
    let port = u16::try_from(request.port).unwrap_or_default();
    let connecting = timeout(CONNECT_LIMIT, TcpStream::connect((address, port)));
    let Ok(connected) = connecting.await else {
        return Err(Failure::Refused(format!("port {port} does not answer")));
    };
    let mut here = connected.doing("connect to a local port")?;
    let stream = transport.connect(request.stream_port).await;
    let mut there = stream.doing("connect a stream")?;
    tokio::spawn(async move {
        // Either end may hang up.
        drop(copy_bidirectional(&mut here, &mut there).await);
    });
    Ok(())
}
