//! Fewer, larger writes. HTTP/2 implementations flush after each frame; here a flush only marks, and what one poll of a
//! connection produced leaves in one write when the poll returns.
//!
//! What must hold: nothing stays in the buffer when a poll has returned unless the socket is full, and then the
//! connection is woken when it no longer is; a failed write ends the connection; closing writes the rest first. It lies
//! above TLS, where there is any, so that records are large too.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use hyper::rt::{Read, ReadBufCursor, Write};

/// Above this, a write waits until the socket has taken what there is: the bound on a slow reader's memory.
const BOUND: usize = 64 << 10;

thread_local! {
    /// The buffer of whichever connection is being polled on this thread: idle ones have none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A socket whose writes are gathered. Its clone is a second handle, to write them out.
#[derive(Debug)]
pub(super) struct Coalesced<T>(Arc<Mutex<Inner<T>>>);

#[derive(Debug)]
struct Inner<T> {
    io: T,
    out: Vec<u8>,
    /// Bytes of `out` that the socket has taken.
    taken: usize,
    /// The socket holds something that it was not yet told to send.
    unflushed: bool,
}

impl<T> Clone for Coalesced<T> {
    fn clone(&self) -> Coalesced<T> {
        Coalesced(self.0.clone())
    }
}

impl<T: Read + Write + Unpin> Coalesced<T> {
    pub(super) fn new(io: T) -> Coalesced<T> {
        Coalesced(Arc::new(Mutex::new(Inner { io, out: Vec::new(), taken: 0, unflushed: false })))
    }

    /// Writes out what was gathered.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_drain(cx)
    }

    /// The lock is never waited for: one task holds both handles.
    fn inner(&self) -> MutexGuard<'_, Inner<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Read + Write + Unpin> Inner<T> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.out.len() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.taken..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken += written;
            self.unflushed = true;
        }
        if self.out.capacity() > 0 {
            self.taken = 0;
            self.out.clear();
            SPARE.set(std::mem::take(&mut self.out));
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.capacity() == 0 {
            self.out = SPARE.take();
            self.out.reserve(BOUND);
        }
        if self.out.len() - self.taken >= BOUND { self.poll_drain(cx) } else { Poll::Ready(Ok(())) }
    }
}

impl<T: Read + Write + Unpin> Read for Coalesced<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner().io).poll_read(cx, buf)
    }
}

impl<T: Read + Write + Unpin> Write for Coalesced<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.inner();
        ready!(inner.poll_room(cx))?;
        inner.out.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.inner();
        ready!(inner.poll_room(cx))?;
        bufs.iter().for_each(|buf| inner.out.extend_from_slice(buf));
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner();
        ready!(inner.poll_drain(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}
