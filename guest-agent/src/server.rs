//! Serving the protocol on a connection that the agent itself makes, and makes
//! again whenever it has ended.
//!
//! Owns the connection. Knows no call.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use caisson_protocol::{CONTROL_PORT, server::agent_ttrpc::create_agent};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};
use ttrpc::r#async::{Server, transport::Listener};

use crate::{guest::Guest, service::Service, stream::Stream, transport::Transport};

/// Serves `first`, and after its end connection after connection.
///
/// # Errors
/// The server's, which has none for a listener that is there.
pub(crate) async fn serve(
    guest: Arc<Guest>,
    transport: Transport,
    first: Stream,
) -> ttrpc::Result<()> {
    let hung_up = Arc::new(Notify::new());
    let service = Service {
        guest,
        hung_up: Arc::clone(&hung_up),
    };
    let state = (Some(first), hung_up, transport);
    let connections = futures_util::stream::unfold(state, |(first, hung_up, transport)| async {
        let stream = match first {
            Some(stream) => stream,
            None => {
                hung_up.notified().await;
                reconnect(&transport).await
            }
        };
        let connection = Connection {
            stream,
            hung_up: Arc::clone(&hung_up),
        };
        Some((io::Result::Ok(connection), (None, hung_up, transport)))
    });
    let mut server = Server::new()
        .add_listener(Listener::new(connections))
        .register_service(create_agent(Arc::new(service)));
    server.start().await?;
    std::future::pending().await
}

async fn reconnect(transport: &Transport) -> Stream {
    loop {
        match transport.connect(CONTROL_PORT).await {
            Ok(stream) => return stream,
            // The host is paused, or restoring: there is nothing to wait on.
            Err(_) => tokio::time::sleep(RECONNECT_DELAY).await,
        }
    }
}

/// A connection that notifies `hung_up` when it is dropped, which is when it has ended.
struct Connection {
    stream: Stream,
    hung_up: Arc<Notify>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.hung_up.notify_waiters();
        self.hung_up.notify_one();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

const RECONNECT_DELAY: Duration = Duration::from_millis(50);
