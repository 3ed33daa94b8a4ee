//! An HTTP/2 client for traffic that no well-behaved client sends. It builds frames by hand (RFC 9113) and does not
//! compress headers (RFC 7541).

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::soon;

pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// The maximum size of a flow-control window, and the maximum increment of WINDOW_UPDATE.
pub(super) const WINDOW: u32 = (1 << 31) - 1;

/// The path of a call whose request can be an empty message.
pub(crate) const LIST_TAGS: &str = "/cable.v1.ContentService/ListTags";
/// An empty gRPC message: only the five bytes of its prefix.
pub(crate) const EMPTY: &[u8] = &[0; 5];

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// Returns the error code of an RST_STREAM or GOAWAY frame.
    pub(super) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    pub(super) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// The client end of a connection.
pub(super) struct Peer {
    io: TcpStream,
    /// Whether the peer acknowledges SETTINGS and PING, as HTTP/2 requires.
    pub(super) polite: bool,
}

impl Peer {
    /// Connects and sends nothing.
    pub(super) async fn connect(address: SocketAddr) -> Peer {
        Peer { io: soon(TcpStream::connect(address)).await.unwrap(), polite: true }
    }

    /// Connects from the given local address and sends nothing.
    pub(super) async fn connect_from(local: IpAddr, address: SocketAddr) -> Peer {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((local, 0).into()).unwrap();
        Peer { io: soon(socket.connect(address)).await.unwrap(), polite: true }
    }

    /// Connects and sends the HTTP/2 preface with the given settings.
    pub(super) async fn handshake(address: SocketAddr, settings: &[(u16, u32)]) -> Peer {
        let mut peer = Peer::connect(address).await;
        peer.send_preface(settings).await;
        peer
    }

    pub(super) async fn send_preface(&mut self, settings: &[(u16, u32)]) {
        let pair = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let settings: Vec<u8> = settings.iter().flat_map(pair).collect();
        self.write(&[&PREFACE[..], &frame(SETTINGS, 0, 0, &settings)].concat()).await;
    }

    /// Writes bytes and ignores errors: if the node has closed the connection, the next read reports it.
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        let _ = soon(self.io.write_all(bytes)).await;
    }

    /// Sends the headers of a call and leaves its request open.
    pub(super) async fn open(&mut self, stream: u32, path: &str) {
        self.write(&frame(HEADERS, END_HEADERS, stream, &request(path))).await;
    }

    /// Sends a GET.
    pub(super) async fn get(&mut self, stream: u32, path: &str) {
        // The static table has `:method: GET` at index 2 and `:scheme: http` at index 6.
        let mut block = vec![0x82, 0x86];
        literal(&mut block, ":path", path);
        literal(&mut block, ":authority", "localhost");
        self.write(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)).await;
    }

    /// Sends the request message of a call and ends the request.
    pub(super) async fn finish(&mut self, stream: u32, message: &[u8]) {
        self.write(&frame(DATA, END_STREAM, stream, message)).await;
    }

    /// Returns the next frame, or none if the connection has ended. A polite peer acknowledges SETTINGS and PING first.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        let frame = soon(self.read()).await.ok()?;
        if self.polite && frame.flags & ACK == 0 && [SETTINGS, PING].contains(&frame.kind) {
            let echo = if frame.kind == PING { &frame.payload[..] } else { &[] };
            self.write(&self::frame(frame.kind, ACK, 0, echo)).await;
        }
        Some(frame)
    }

    async fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.io.read_exact(&mut payload).await?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// Returns the next frame of the given kind and discards the frames before it.
    pub(super) async fn expect(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await;
            let frame =
                frame.unwrap_or_else(|| panic!("the connection ended without a frame of kind {kind}"));
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads a response to its end and discards the frames of other streams. Returns the length of its messages in
    /// bytes, including their prefixes.
    pub(super) async fn read_response(&mut self, stream: u32) -> usize {
        let mut length = 0;
        loop {
            let frame = self.next().await.expect("the connection ended during a response");
            if frame.stream != stream {
                continue;
            }
            assert!([HEADERS, DATA, WINDOW_UPDATE].contains(&frame.kind), "{frame:?}");
            length += if frame.kind == DATA { frame.payload.len() } else { 0 };
            if frame.ends_stream() {
                return length;
            }
        }
    }

    /// Calls ListTags and checks that the response message is not empty.
    pub(super) async fn call(&mut self, stream: u32) {
        self.open(stream, LIST_TAGS).await;
        self.finish(stream, EMPTY).await;
        assert!(self.read_response(stream).await > EMPTY.len());
    }

    /// Reads until the node closes the connection, however long that takes. The bytes may be of any protocol.
    pub(super) async fn closed(mut self) {
        let mut buffer = [0; 4 << 10];
        while self.io.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    }

    /// Reads until the node closes the connection.
    pub(super) async fn wait_for_close(&mut self) {
        while self.next().await.is_some() {}
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns the header block of a call to the given path.
pub(super) fn request(path: &str) -> Vec<u8> {
    // The static table has `:method: POST` at index 3 and `:scheme: http` at index 6.
    let mut block = vec![0x83, 0x86];
    for (name, value) in [
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        literal(&mut block, name, value);
    }
    block
}

/// Appends a literal header without indexing and without Huffman coding.
pub(super) fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        length(block, text.len());
        block.extend_from_slice(text.as_bytes());
    }
}

/// Appends an integer with a 7-bit prefix (RFC 7541, 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
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

/// Returns a header block as one HEADERS frame and as many CONTINUATION frames as it needs.
pub(super) fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = block.chunks(16 << 10).collect();
    let last = parts.len() - 1;
    let frames = parts.iter().enumerate().map(|(at, part)| {
        let kind = if at == 0 { HEADERS } else { CONTINUATION };
        frame(kind, if at == last { END_HEADERS } else { 0 }, stream, part)
    });
    frames.collect::<Vec<_>>().concat()
}
