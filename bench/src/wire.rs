//! A gRPC client reduced to bytes. It sends the same bytes in every run, and concurrent calls in one write, so that a
//! server has the same work each time. It grants the largest HTTP/2 windows and never updates them, so a connection can
//! receive less than 2 GiB.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::Outcome;

/// The time limit of a response, far more than it needs.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Frames and flags of RFC 9113.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
const FIRST_WINDOW: u32 = (1 << 16) - 1;

/// `:method: POST` and `:scheme: http` of HPACK's table (RFC 7541, appendix A).
const POST_HTTP: [u8; 2] = [0x83, 0x86];
/// The index of the newest field that a connection has added to the table, as a field of a block.
const NEWEST_FIELD: u8 = 0x80 | 62;
/// The fields that the first block adds to the table, besides those of the caller.
const OWN_FIELDS: u8 = 4;
/// The deadline that calls send unless they have headers of their own.
const DEADLINE: (&str, &str) = ("grpc-timeout", "10S");

/// A connection for calls of one method.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    /// The headers of the next call, and of all further ones.
    block: Vec<u8>,
    repeated_block: Vec<u8>,
    next: u32,
}

impl Wire {
    /// # Errors
    /// Fails if no server listens there.
    pub(crate) fn connect(address: SocketAddr, method: &str) -> Outcome<Wire> {
        Wire::connect_with(address, method, &[DEADLINE])
    }

    /// Connects for calls with headers, each with a name and a value of at most 126 bytes.
    ///
    /// # Errors
    /// Fails if no server listens there.
    pub(crate) fn connect_with(address: SocketAddr, method: &str, headers: &[(&str, &str)]) -> Outcome<Wire> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
        stream.write_all(&client_preface())?;
        let newest_last =
            (0..OWN_FIELDS + u8::try_from(headers.len())?).rev().map(|index| NEWEST_FIELD + index);
        let repeated_block = POST_HTTP.into_iter().chain(newest_last).collect();
        Ok(Wire { stream, block: first_block(address, method, headers), repeated_block, next: 1 })
    }

    /// Makes calls in one write and waits for all responses. Returns their bodies, in order.
    ///
    /// # Errors
    /// Fails if a response has no message, or if the connection fails.
    pub(crate) fn call(&mut self, messages: &[Vec<u8>]) -> Outcome<Vec<Vec<u8>>> {
        let mut out = Vec::new();
        let mut bodies = BTreeMap::new();
        for message in messages {
            put_frame(&mut out, HEADERS, END_HEADERS, self.next, &self.block);
            let length = u32::try_from(message.len())?;
            let body = [&[0], &length.to_be_bytes()[..], message].concat();
            put_frame(&mut out, DATA, END_STREAM, self.next, &body);
            bodies.insert(self.next, Vec::new());
            self.block.clone_from(&self.repeated_block);
            self.next += 2;
        }
        self.stream.write_all(&out)?;
        let mut open = messages.len();
        while open > 0 {
            open -= usize::from(self.read_frame(&mut bodies)?);
        }
        if bodies.values().any(Vec::is_empty) {
            return Err("response without a message".into());
        }
        Ok(bodies.into_values().collect())
    }

    /// Reads a frame. Returns whether it ends a stream.
    fn read_frame(&mut self, bodies: &mut BTreeMap<u32, Vec<u8>>) -> Outcome<bool> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload)?;
        match kind {
            DATA => {
                let body =
                    bodies.get_mut(&u32::from_be_bytes(stream)).ok_or("DATA frame of an unknown stream")?;
                body.append(&mut payload);
            }
            HEADERS => {}
            RST_STREAM | GOAWAY => return Err("stream reset or GOAWAY by the server".into()),
            SETTINGS if flags & ACK == 0 => self.acknowledge(SETTINGS, &[])?,
            PING if flags & ACK == 0 => self.acknowledge(PING, &payload)?,
            _ => {}
        }
        Ok(matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0)
    }

    fn acknowledge(&mut self, kind: u8, payload: &[u8]) -> Outcome<()> {
        let mut out = Vec::new();
        put_frame(&mut out, kind, ACK, 0, payload);
        Ok(self.stream.write_all(&out)?)
    }
}

/// Returns the first bytes of a connection, which grant the largest HTTP/2 windows.
pub(crate) fn client_preface() -> Vec<u8> {
    let mut client_preface = PREFACE.to_vec();
    let window = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &LARGEST_WINDOW.to_be_bytes()].concat();
    put_frame(&mut client_preface, SETTINGS, 0, 0, &window);
    put_frame(&mut client_preface, WINDOW_UPDATE, 0, 0, &(LARGEST_WINDOW - FIRST_WINDOW).to_be_bytes());
    client_preface
}

pub(crate) fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// Returns the headers of a connection's first call. All others refer to them by their indices in the table.
fn first_block(address: SocketAddr, method: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = POST_HTTP.to_vec();
    let mut put = |name: &[u8], value: &str| {
        block.extend(name);
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    };
    put(&[0x44], &format!("/cable.v1.ContentService/{method}"));
    put(&[0x41], &address.to_string());
    put(&[0x5f], "application/grpc");
    put(b"\x40\x02te", "trailers");
    for (name, value) in headers {
        put(&[&[0x40, name.len() as u8], name.as_bytes()].concat(), value);
    }
    block
}

/// Returns the messages of a body.
///
/// # Errors
/// Fails if the body does not consist of complete messages.
pub(crate) fn messages(mut body: &[u8]) -> Outcome<Vec<&[u8]>> {
    let mut messages = Vec::new();
    while let [0, a, b, c, d, rest @ ..] = body {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (message, after) = rest.split_at_checked(length).ok_or("truncated message")?;
        messages.push(message);
        body = after;
    }
    if body.is_empty() { Ok(messages) } else { Err("malformed gRPC body".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_body_is_split_into_messages() {
        let body = b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0\0\x01c";
        assert_eq!(messages(body).unwrap(), [&b"ab"[..], b"", b"c"]);
        for cut in [1, 5, 6, 9, body.len() - 1] {
            assert!(messages(&body[..cut]).is_err(), "{cut}");
        }
    }
}
