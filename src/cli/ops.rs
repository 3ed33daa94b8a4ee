//! Requests to the operations address of a node.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

/// The maximum size of a response in bytes: ten times that of the metrics of a node with every one.
const MAX_RESPONSE_BYTES: u64 = 4 << 20;

/// How long a node may take to respond.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Parses an operations address: a host and a port.
pub(crate) fn address(text: &str) -> Result<String, String> {
    let address = text.trim_start_matches("http://").trim_end_matches('/');
    match address.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
        Some((host, Ok(1..))) if !host.is_empty() => Ok(address.to_owned()),
        _ => Err("expected a host and a port, such as 127.0.0.1:7191".to_owned()),
    }
}

/// Returns the status and the text of a path.
///
/// # Errors
/// The address cannot be reached, or does not respond in time with text.
pub(crate) fn get(address: &str, path: &str) -> io::Result<(u16, String)> {
    let resolved = address.to_socket_addrs()?.next();
    let resolved = resolved.ok_or_else(|| io::Error::other("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&resolved, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    )?;
    let mut response = String::new();
    stream.take(MAX_RESPONSE_BYTES).read_to_string(&mut response)?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.unwrap_or_default(), body.to_owned()))
}
