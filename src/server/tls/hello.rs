//! The wait for the hello of a client. A peer that is silent, or sends only a part of it, costs no more than its socket.

use std::io;

use rustix::{io::ioctl_fionread, net};
use tokio::{io::Interest, net::TcpStream, time::timeout};

use super::handshakes::TIMEOUT;

/// The length of a record's header: its type, its version, and the length of its content.
const HEADER_BYTES: usize = 5;

/// The maximum length of a record's content (RFC 8446, 5.1). A longer one is not valid.
const MAX_CONTENT_BYTES: usize = 16 << 10;

/// Waits until the first record of a connection has arrived. Reads nothing, so that no buffer is needed. A hello that is
/// divided into several records arrives during the handshake.
///
/// # Errors
/// The record does not arrive in time.
pub(super) async fn wait(io: &TcpStream) -> io::Result<()> {
    timeout(TIMEOUT, wait_for_record(io)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn wait_for_record(io: &TcpStream) -> io::Result<()> {
    loop {
        let ready = io.ready(Interest::READABLE).await?;
        match io.try_io(Interest::READABLE, || check(io)) {
            // The socket becomes ready again with its next bytes, unless there are none.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if ready.is_read_closed() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            done => return done,
        }
    }
}

/// # Errors
/// `WouldBlock` if a part of the first record is missing.
fn check(io: &TcpStream) -> io::Result<()> {
    let mut header = [0; HEADER_BYTES];
    let (_, read) = net::recv(io, &mut header[..], net::RecvFlags::PEEK | net::RecvFlags::DONTWAIT)?;
    let available = ioctl_fionread(io)?;
    if is_complete(&header[..read.min(HEADER_BYTES)], available) {
        Ok(())
    } else {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Whether a record is complete, by its header and the number of available bytes. One that is certainly not valid needs
/// no more bytes.
fn is_complete(header: &[u8], available: u64) -> bool {
    const HANDSHAKE: u8 = 22;
    match *header {
        [HANDSHAKE, _, _, high, low] => {
            let content = usize::from(u16::from_be_bytes([high, low]));
            content > MAX_CONTENT_BYTES || available >= (HEADER_BYTES + content) as u64
        }
        [HANDSHAKE, ..] | [] => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{io::AsyncWriteExt as _, net::TcpListener, time::sleep};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[test]
    fn a_record_is_complete_with_its_last_byte() {
        for (header, available, complete) in [
            (&[][..], 0, false),
            (&[22], 1, false),
            (&[22, 3, 1, 1], 4, false),
            (&[22, 3, 1, 1, 0], 5, false),
            (&[22, 3, 1, 1, 0], 260, false),
            (&[22, 3, 1, 1, 0], 261, true),
            (&[22, 3, 1, 1, 0], 9_000, true),
            (&[22, 3, 1, 0, 0], 5, true),
            (&[22, 3, 1, 0x40, 0], 16_388, false),
            (&[22, 3, 1, 0x40, 0], 16_389, true),
            (&[22, 3, 1, 0x40, 1], 5, true),
            (b"G", 1, true),
            (b"PRI *", 24, true),
        ] {
            assert_eq!(is_complete(header, available), complete, "{header:?} {available}");
        }
    }

    #[tokio::test]
    async fn a_record_may_arrive_in_any_parts() {
        let (mut client, node) = pair().await;
        client.set_nodelay(true).unwrap();
        let send = async {
            for byte in [&[22, 3, 1, 0, 40][..], &[7; 40]].concat() {
                client.write_all(&[byte]).await.unwrap();
                sleep(Duration::from_millis(1)).await;
            }
        };
        let (arrived, ()) = tokio::join!(wait(&node), send);
        arrived.unwrap();
        let mut buffer = [0; 64];
        assert_eq!(node.peek(&mut buffer).await.unwrap(), 45, "nothing was read");
    }

    #[tokio::test]
    async fn a_peer_that_ends_before_its_hello_is_disconnected() {
        for part in [&[][..], &[22], &[22, 3, 1, 0, 40], &[22, 3, 1, 0, 40, 7]] {
            let (mut client, node) = pair().await;
            client.write_all(part).await.unwrap();
            let wait = tokio::spawn(async move { wait(&node).await });
            sleep(Duration::from_millis(20)).await;
            assert!(!wait.is_finished(), "{part:?}");
            client.shutdown().await.unwrap();
            let error = timeout(Duration::from_secs(4), wait).await.expect("at once").unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{part:?}");
        }
        let (mut client, node) = pair().await;
        client.write_all(&[22, 3, 1, 0, 2, 7, 7]).await.unwrap();
        client.shutdown().await.unwrap();
        wait(&node).await.unwrap();
    }
}
