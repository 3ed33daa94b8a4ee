//! Combines small writes into fewer, larger ones. HTTP/2 implementations flush after each frame. Here a flush writes
//! nothing: the output of one poll of a connection is written at once when the poll returns.
//!
//! Invariants: after a poll the buffer is empty unless the socket is full, and the connection is woken when the socket
//! has room again. A failed write ends the connection. Closing writes the rest first. With TLS, this layer is above it,
//! so that TLS records are large too.

use std::{
    cell::Cell,
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use hyper::rt::{Read, ReadBufCursor, Write};

/// The maximum size of the buffer. When it is full, a write waits until the socket has taken the bytes. This bounds the
/// memory of a slow reader.
const MAX_BUFFER_BYTES: usize = 64 << 10;

thread_local! {
    /// The buffer of the connection that is being polled on this thread. Idle connections have no buffer.
    static SPARE: Cell<VecDeque<u8>> = const { Cell::new(VecDeque::new()) };
}

/// A socket with a write buffer. A clone is a second handle, used to drain the buffer.
#[derive(Debug)]
pub(super) struct Coalesced<T>(Arc<Mutex<Inner<T>>>);

#[derive(Debug)]
struct Inner<T> {
    io: T,
    /// A ring buffer: bytes that a slow reader has not taken are never moved.
    out: VecDeque<u8>,
    /// Whether the socket holds bytes that are not flushed.
    unflushed: bool,
    /// Whether a write is waiting.
    has_waiting_write: bool,
    /// Whether the last write was accepted only in part.
    is_partial_write: bool,
}

impl<T> Clone for Coalesced<T> {
    fn clone(&self) -> Coalesced<T> {
        Coalesced(self.0.clone())
    }
}

impl<T: Read + Write + Unpin> Coalesced<T> {
    pub(super) fn new(io: T) -> Coalesced<T> {
        let inner = Inner {
            io,
            out: VecDeque::new(),
            unflushed: false,
            has_waiting_write: false,
            is_partial_write: false,
        };
        Coalesced(Arc::new(Mutex::new(inner)))
    }

    /// Writes the buffer to the socket.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner();
        ready!(inner.poll_drain(cx))?;
        if std::mem::take(&mut inner.has_waiting_write) {
            // A write has found the socket full, and now it has room again. The socket will not wake that write.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    /// Adds a final frame of our own after complete frames. If the last write was accepted only in part, the frame is
    /// omitted, because it would be in the middle of another one.
    pub(super) fn append(&self, frame: &[u8]) {
        let mut inner = self.inner();
        if !inner.is_partial_write {
            inner.out.extend(frame);
        }
    }

    /// Locks the state. The lock is always free, because one task has both handles.
    fn inner(&self) -> MutexGuard<'_, Inner<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Read + Write + Unpin> Inner<T> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let (next, _) = self.out.as_slices();
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, next))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.drain(..written);
            self.unflushed = true;
        }
        if self.out.capacity() > 0 {
            self.out.clear();
            SPARE.set(std::mem::take(&mut self.out));
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Returns the room in the buffer, which is never 0.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.out.len() >= MAX_BUFFER_BYTES {
            (self.has_waiting_write, self.is_partial_write) = (true, true);
            ready!(self.poll_drain(cx))?;
            self.has_waiting_write = false;
        }
        if self.out.capacity() == 0 {
            self.out = SPARE.take();
            self.out.reserve(MAX_BUFFER_BYTES);
        }
        Poll::Ready(Ok(MAX_BUFFER_BYTES - self.out.len()))
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
        let room = ready!(inner.poll_room(cx))?.min(buf.len());
        inner.out.extend(&buf[..room]);
        inner.is_partial_write = room < buf.len();
        Poll::Ready(Ok(room))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.inner();
        let room = ready!(inner.poll_room(cx))?;
        let before = inner.out.len();
        for buf in bufs {
            let free = room - (inner.out.len() - before);
            inner.out.extend(&buf[..free.min(buf.len())]);
        }
        inner.is_partial_write = inner.out.len() == MAX_BUFFER_BYTES;
        Poll::Ready(Ok(inner.out.len() - before))
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

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::{Wake, Waker},
    };

    use super::*;

    /// The behaviour of the socket in the next call.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Take(usize),
        Wait,
        Fail,
    }
    use Step::{Fail, Take, Wait};

    /// A socket that follows a script, and accepts everything once the script has ended.
    #[derive(Debug, Default)]
    struct Script {
        writes: VecDeque<Step>,
        flushes: VecDeque<Step>,
        shutdowns: usize,
        taken: Vec<u8>,
        /// The number of bytes of `taken` that were flushed.
        flushed: usize,
        /// The waker of the last call that had to wait.
        waker: Option<Waker>,
    }

    impl Script {
        fn step(&mut self, next: Option<Step>, cx: &Context<'_>) -> Poll<io::Result<usize>> {
            match next {
                None => Poll::Ready(Ok(usize::MAX)),
                Some(Take(max)) => Poll::Ready(Ok(max)),
                Some(Fail) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Some(Wait) => {
                    self.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        }
    }

    impl Read for Script {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl Write for Script {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let next = self.writes.pop_front();
            let taken = ready!(self.step(next, cx))?.min(buf.len());
            self.taken.extend_from_slice(&buf[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let next = self.flushes.pop_front();
            ready!(self.step(next, cx))?;
            self.flushed = self.taken.len();
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            assert_eq!(self.flushed, self.taken.len(), "closed before the flush");
            self.shutdowns += 1;
            Poll::Ready(Ok(()))
        }
    }

    /// A task that counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection with its task.
    struct Case {
        io: Coalesced<Script>,
        task: Arc<Task>,
    }

    impl Case {
        fn new(writes: &[Step], flushes: &[Step]) -> Case {
            let (writes, flushes) = (writes.iter().copied().collect(), flushes.iter().copied().collect());
            let io = Coalesced::new(Script { writes, flushes, ..Script::default() });
            Case { io, task: Arc::default() }
        }

        fn poll<T>(&self, poll: impl FnOnce(Pin<&mut Coalesced<Script>>, &mut Context<'_>) -> T) -> T {
            let waker = Waker::from(self.task.clone());
            poll(Pin::new(&mut self.io.clone()), &mut Context::from_waker(&waker))
        }

        fn write(&self, bytes: &[u8]) -> Poll<Result<usize, io::ErrorKind>> {
            self.poll(|io, cx| io.poll_write(cx, bytes)).map_err(|error| error.kind())
        }

        fn drain(&self) -> Poll<Result<(), io::ErrorKind>> {
            self.poll(|io, cx| io.poll_drain(cx)).map_err(|error| error.kind())
        }

        fn shutdown(&self) -> Poll<Result<(), io::ErrorKind>> {
            self.poll(|io, cx| io.poll_shutdown(cx)).map_err(|error| error.kind())
        }

        /// Wakes the task that waits for the socket. Returns whether it is this one.
        fn wakes(&self) -> bool {
            let before = self.task.0.load(Ordering::Relaxed);
            self.io.inner().io.waker.take().into_iter().for_each(Waker::wake);
            self.task.0.load(Ordering::Relaxed) > before
        }
    }

    const DONE: Poll<Result<(), io::ErrorKind>> = Poll::Ready(Ok(()));

    #[test]
    fn many_writes_and_flushes_become_one_write() {
        let case = Case::new(&[Take(usize::MAX), Fail], &[]);
        for piece in [&b"ab"[..], b"", b"cde"] {
            assert_eq!(case.write(piece), Poll::Ready(Ok(piece.len())));
            assert!(case.poll(|io, cx| io.poll_flush(cx)).is_ready());
        }
        let slices = [IoSlice::new(b"f"), IoSlice::new(b""), IoSlice::new(b"gh")];
        assert!(matches!(case.poll(|io, cx| io.poll_write_vectored(cx, &slices)), Poll::Ready(Ok(3))));
        assert!(case.io.inner().io.taken.is_empty());
        assert_eq!(case.drain(), DONE);
        assert_eq!(case.io.inner().io.taken, b"abcdefgh");
    }

    #[test]
    fn a_drain_empties_the_buffer_through_short_writes() {
        let case = Case::new(&[Take(1), Take(3), Wait, Take(2), Wait, Take(1)], &[Wait]);
        assert_eq!(case.write(b"abcdef"), Poll::Ready(Ok(6)));
        assert!(case.drain().is_pending() && case.wakes());
        assert_eq!(case.io.inner().io.taken, b"abcd");
        assert_eq!(case.write(b"ghij"), Poll::Ready(Ok(4)));
        assert!(case.drain().is_pending() && case.wakes());
        assert!(case.drain().is_pending() && case.wakes(), "the flush is pending");
        assert_eq!(case.drain(), DONE);
        let inner = case.io.inner();
        assert_eq!((&inner.io.taken[..], inner.io.flushed), (&b"abcdefghij"[..], 10));
        assert_eq!(inner.out.capacity(), 0, "an idle connection has no buffer");
    }

    #[test]
    fn a_full_buffer_accepts_a_part_and_then_waits() {
        let case = Case::new(&[Wait, Wait, Take(MAX_BUFFER_BYTES), Wait], &[]);
        assert_eq!(case.write(&vec![b'a'; MAX_BUFFER_BYTES - 1]), Poll::Ready(Ok(MAX_BUFFER_BYTES - 1)));
        assert_eq!(case.write(b"bc"), Poll::Ready(Ok(1)));
        let slices = [IoSlice::new(b"c"), IoSlice::new(b"d")];
        assert!(case.poll(|io, cx| io.poll_write_vectored(cx, &slices)).is_pending() && case.wakes());
        assert!(case.write(b"cd").is_pending() && case.wakes());
        assert_eq!(case.write(b"cd"), Poll::Ready(Ok(2)));
        assert!(case.drain().is_pending());
        assert_eq!(case.drain(), DONE);
        assert!(case.io.inner().io.taken.ends_with(b"aabcd"));
    }

    #[test]
    fn a_vectored_write_is_cut_where_the_buffer_is_full() {
        let case = Case::new(&[], &[]);
        assert_eq!(case.write(&vec![b'a'; MAX_BUFFER_BYTES - 3]), Poll::Ready(Ok(MAX_BUFFER_BYTES - 3)));
        let slices = [IoSlice::new(b"bc"), IoSlice::new(b"de"), IoSlice::new(b"fg")];
        assert!(matches!(case.poll(|io, cx| io.poll_write_vectored(cx, &slices)), Poll::Ready(Ok(3))));
        assert_eq!(case.drain(), DONE);
        assert!(case.io.inner().io.taken.ends_with(b"abcd"));
    }

    #[test]
    fn a_reader_that_is_always_behind_holds_no_more_than_the_bound() {
        let case = Case::new(&[Take(10_000), Wait].repeat(1_000), &[]);
        for _ in 0..400 {
            // The buffer cannot hold nine of them, so one write has to wait.
            let written = (0..9).take_while(|_| case.write(&[b'a'; 16 << 10]).is_ready()).count();
            assert!(written < 9 && case.drain().is_pending());
            assert!(case.io.inner().out.capacity() <= MAX_BUFFER_BYTES, "{}", case.io.inner().out.capacity());
        }
    }

    /// The socket has room again between the waiting write and the drain, so it wakes no task itself.
    #[test]
    fn a_drain_wakes_the_write_that_waits_for_room() {
        let case = Case::new(&[Wait], &[]);
        assert_eq!(case.write(&vec![b'a'; MAX_BUFFER_BYTES]), Poll::Ready(Ok(MAX_BUFFER_BYTES)));
        assert!(case.write(b"b").is_pending());
        case.io.inner().io.waker = None;
        assert_eq!(case.drain(), DONE);
        assert_eq!(case.task.0.load(Ordering::Relaxed), 1);
        assert_eq!(case.drain(), DONE);
        assert_eq!(case.task.0.load(Ordering::Relaxed), 1, "woken more than once");
    }

    #[test]
    fn a_drain_returns_errors_of_writes_and_flushes() {
        let case = Case::new(&[Take(1), Fail], &[]);
        assert_eq!(case.write(b"ab"), Poll::Ready(Ok(2)));
        assert_eq!(case.drain(), Poll::Ready(Err(io::ErrorKind::BrokenPipe)));
        let case = Case::new(&[Take(0)], &[]);
        assert_eq!(case.write(b"ab"), Poll::Ready(Ok(2)));
        assert_eq!(case.drain(), Poll::Ready(Err(io::ErrorKind::WriteZero)));
        let case = Case::new(&[], &[Fail]);
        assert_eq!(case.write(b"ab"), Poll::Ready(Ok(2)));
        assert_eq!(case.drain(), Poll::Ready(Err(io::ErrorKind::BrokenPipe)));
        let case = Case::new(&[Fail], &[]);
        assert_eq!(case.write(&vec![b'a'; MAX_BUFFER_BYTES]), Poll::Ready(Ok(MAX_BUFFER_BYTES)));
        assert_eq!(case.write(b"b"), Poll::Ready(Err(io::ErrorKind::BrokenPipe)));
    }

    #[test]
    fn closing_writes_the_rest_first() {
        let case = Case::new(&[Take(1), Wait], &[Wait]);
        assert_eq!(case.write(b"abc"), Poll::Ready(Ok(3)));
        assert!(case.shutdown().is_pending() && case.wakes());
        assert!(case.shutdown().is_pending() && case.wakes());
        assert_eq!(case.io.inner().io.shutdowns, 0);
        assert_eq!(case.shutdown(), DONE);
        let inner = case.io.inner();
        assert_eq!((&inner.io.taken[..], inner.io.shutdowns), (&b"abc"[..], 1));
    }
}
