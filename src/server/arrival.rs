//! The start of a connection, between its accept and its first byte of HTTP: the header of a proxy, the limit of its
//! peer, and the handshake of TLS.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{
    accept::ConnectionPermit,
    connection::{self, ConnectionContext, Failure, Served},
    cores::Accepted,
    life,
    peer::{Listener, Peer},
    tls::{Protocol, Secured},
};
use crate::rate::network;

/// The transport of a connection that is ready for HTTP.
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>, Option<Protocol>),
}

/// Serves an accepted connection until it ends.
pub(super) async fn serve(accepted: Accepted, context: ConnectionContext) {
    let Accepted { listener, stream, address, mut permit } = accepted;
    let served = match TcpStream::from_std(stream) {
        Ok(stream) => serve_stream(stream, (listener, address), &mut permit, context).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = served {
        tracing::debug!(error, %address, "connection failed");
    }
}

async fn serve_stream(
    stream: TcpStream,
    (listener, address): (Listener, SocketAddr),
    permit: &mut ConnectionPermit,
    context: ConnectionContext,
) -> Served {
    // Boxed, so that an open connection holds no memory for its start.
    let arrived = tokio::select! {
        biased;
        arrived = Box::pin(arrive(stream, (listener, address), permit, &context)) => arrived?,
        () = life::wait_for_drain(context.draining.clone()) => return Ok(()),
    };
    let (peer, transport) = arrived;
    tracing::debug!(%peer, "connection accepted");
    // Boxed, so that a connection holds the memory of its own transport only.
    match transport {
        Transport::Plain(io) => Box::pin(connection::serve(io, Arc::new(peer), None, context)).await,
        Transport::Tls(io, protocol) => {
            Box::pin(connection::serve(io, Arc::new(peer), protocol, context)).await
        }
    }
}

/// Prepares a connection for HTTP.
async fn arrive(
    mut stream: TcpStream,
    (listener, address): (Listener, SocketAddr),
    permit: &mut ConnectionPermit,
    context: &ConnectionContext,
) -> Result<(Peer, Transport), Failure> {
    let client = context.proxies.read_client(address, &mut stream).await?;
    if client != address && !context.proxies.contain(client.ip()) && !permit.count_peer(client.ip()) {
        return Err("the client behind the proxy has reached its connection limit".into());
    }
    let Some(tls) = &context.tls else {
        return Ok((Peer::new(listener, client, None, &context.proxies), Transport::Plain(stream)));
    };
    let Secured { io, certificate, protocol } = tls.accept(stream, network(client.ip())).await?;
    Ok((Peer::new(listener, client, certificate, &context.proxies), Transport::Tls(Box::new(io), protocol)))
}
