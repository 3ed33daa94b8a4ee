//! An HTTP/2 peer that reads only on demand.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::{
    Outcome,
    wire::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, SETTINGS, put_frame},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const WINDOW_UPDATE: u8 = 8;
const INITIAL_WINDOW_SIZE: u16 = 4;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
const FIRST_WINDOW: u32 = (1 << 16) - 1;
const CANCEL: u32 = 8;

/// The time for which a node may leave a peer's bytes unread before the peer gives up.
const WRITE_TIMEOUT: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Peer {
    stream: TcpStream,
    next: u32,
}

impl Peer {
    /// Connects, with windows of this size.
    ///
    /// # Errors
    /// Fails if the node does not listen.
    pub(super) fn connect(address: SocketAddr, window: u32) -> Outcome<Peer> {
        let mut peer = Peer::connect_silently(address)?;
        let mut preface = PREFACE.to_vec();
        let setting = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()].concat();
        put_frame(&mut preface, SETTINGS, 0, 0, &setting);
        if window > FIRST_WINDOW {
            put_frame(&mut preface, WINDOW_UPDATE, 0, 0, &(LARGEST_WINDOW - FIRST_WINDOW).to_be_bytes());
        }
        peer.stream.write_all(&preface)?;
        Ok(peer)
    }

    /// Connects and sends nothing.
    ///
    /// # Errors
    /// Fails if the node does not listen.
    pub(super) fn connect_silently(address: SocketAddr) -> Outcome<Peer> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        Ok(Peer { stream, next: 1 })
    }

    /// Sends bytes. Returns whether the node accepted all of them.
    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Makes a call with a complete request.
    pub(super) fn call(&mut self, path: &str, message: &[u8]) -> bool {
        let (mut out, stream) = (Vec::new(), self.next);
        self.open(&mut out, path, &[]);
        put_frame(&mut out, DATA, END_STREAM, stream, &framed(message));
        self.send(&out)
    }

    /// Starts a call with additional headers, and sends the start of a message.
    pub(super) fn start_call(
        &mut self,
        path: &str,
        headers: &[(String, String)],
        start_of_message: &[u8],
    ) -> bool {
        let (mut out, stream) = (Vec::new(), self.next);
        self.open(&mut out, path, headers);
        start_of_message.chunks(16 << 10).for_each(|piece| put_frame(&mut out, DATA, 0, stream, piece));
        self.send(&out)
    }

    /// Makes a call and resets it.
    pub(super) fn call_and_reset(&mut self, path: &str, message: &[u8]) -> bool {
        let stream = self.next;
        let sent = self.call(path, message);
        let mut out = Vec::new();
        put_frame(&mut out, RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
        sent && self.send(&out)
    }

    /// Reads the available bytes and drops them.
    pub(super) fn drain(&mut self) {
        let mut buffer = [0; 1 << 16];
        while self.stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
    }

    fn open(&mut self, out: &mut Vec<u8>, path: &str, headers: &[(String, String)]) {
        // POST and http are in the static table.
        let mut block = vec![0x83, 0x86];
        let fixed = [
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let own = headers.iter().map(|(name, value)| (&name[..], &value[..]));
        for (name, value) in fixed.into_iter().chain(own) {
            block.push(0);
            for text in [name, value] {
                put_length(&mut block, text.len());
                block.extend_from_slice(text.as_bytes());
            }
        }
        put_frame(out, HEADERS, END_HEADERS, self.next, &block);
        self.next += 2;
    }
}

/// Returns a message with its prefix.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

/// Adds an HPACK integer with a prefix of 7 bits (RFC 7541, 5.1).
fn put_length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(0x7f) else {
        block.push(length as u8);
        return;
    };
    block.push(0x7f);
    while rest >= 0x80 {
        block.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}
