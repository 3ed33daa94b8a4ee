//! A TCP proxy that fails on command. It knows nothing of HTTP: it cuts, delays and swallows bytes.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

/// The treatment of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Mode {
    /// Forwards everything.
    #[default]
    Pass,
    /// Closes new connections at once, and the open ones now.
    Refuse,
    /// Accepts connections and never responds. Open ones stall without being closed.
    Silent,
    /// Forwards everything, but each connection only up to this many bytes from the node: then it is closed.
    CutAfter(u64),
    /// Forwards everything, each chunk after this many milliseconds.
    DelayMs(u64),
}

/// A proxy on a port of its own. Dropping it closes everything.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

struct State {
    mode: watch::Sender<Mode>,
    /// A number that increases when all open connections must close.
    cuts: watch::Sender<u64>,
    /// A number that increases when all open connections must stall for good.
    stalls: watch::Sender<u64>,
    upstream: watch::Sender<SocketAddr>,
    accepted: AtomicU64,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Starts a proxy for a server at this address.
    pub(crate) async fn start(upstream: SocketAddr) -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            mode: watch::Sender::new(Mode::Pass),
            cuts: watch::Sender::new(0),
            stalls: watch::Sender::new(0),
            upstream: watch::Sender::new(upstream),
            accepted: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&state))).abort_handle();
        Ok(Proxy { address, state, task })
    }

    /// The address to connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the server that new connections lead to.
    pub(crate) fn set_upstream(&self, upstream: SocketAddr) {
        self.state.upstream.send_replace(upstream);
    }

    /// Sets what happens from now on, to open connections too.
    pub(crate) fn set(&self, mode: Mode) {
        self.state.mode.send_replace(mode);
        if mode == Mode::Refuse {
            self.cut();
        }
    }

    /// Closes all open connections.
    pub(crate) fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Stalls all open connections for good, without closing them. New ones are not affected.
    pub(crate) fn stall(&self) {
        self.state.stalls.send_modify(|stalls| *stalls += 1);
    }

    /// The number of connections so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.state.accepted.load(Relaxed)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        state.accepted.fetch_add(1, Relaxed);
        connections.spawn(connection(client, Arc::clone(&state)));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(client: TcpStream, state: Arc<State>) {
    let (mut cuts, mut mode) = (state.cuts.subscribe(), state.mode.subscribe());
    let stalls = state.stalls.subscribe();
    let serve = async {
        // A connection that was accepted in silence reaches the node only once the silence is over.
        match mode.wait_for(|mode| *mode != Mode::Silent).await.map(|mode| *mode) {
            Ok(Mode::Refuse) | Err(_) => return,
            Ok(_) => {}
        }
        let upstream = *state.upstream.borrow();
        let Ok(server) = TcpStream::connect(upstream).await else { return };
        let (_slower, _slower_too) = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        // The end of either direction ends both: gRPC has no use for one alone.
        tokio::select! {
            () = copy(from_client, to_server, state.mode.subscribe(), stalls.clone(), false) => {}
            () = copy(from_server, to_client, state.mode.subscribe(), stalls.clone(), true) => {}
        }
    };
    tokio::select! {
        () = serve => {}
        _cut = cuts.changed() => {}
    }
}

/// Copies until the end, or until the mode ends the connection.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
    mut stalls: watch::Receiver<u64>,
    from_server: bool,
) {
    let mut buffer = vec![0; 16 << 10];
    let mut copied = 0;
    loop {
        let Ok(_) = mode.wait_for(|mode| *mode != Mode::Silent).await else { return };
        let read = tokio::select! {
            biased;
            _stalled = stalls.changed() => std::future::pending().await,
            read = from.read(&mut buffer) => read,
        };
        let Ok(read @ 1..) = read else { return };
        // Bytes that arrive while the proxy is silent wait, as in a network that has lost its route.
        let Ok(now) = mode.wait_for(|mode| *mode != Mode::Silent).await.map(|mode| *mode) else { return };
        let mut bytes = &buffer[..read];
        let mut is_last = false;
        match now {
            Mode::CutAfter(limit) if from_server => {
                let left = limit.saturating_sub(copied);
                if read as u64 >= left {
                    bytes = &bytes[..usize::try_from(left).unwrap_or(read)];
                    is_last = true;
                }
                copied += bytes.len() as u64;
            }
            Mode::DelayMs(delay) => sleep(Duration::from_millis(delay)).await,
            Mode::Refuse => return,
            _ => {}
        }
        if to.write_all(bytes).await.is_err() || is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An echo server, and a proxy for it.
    async fn echo() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut from, mut to) = client.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from, &mut to).await });
            }
        });
        Proxy::start(address).await.unwrap()
    }

    async fn ask(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
        let _closed = stream.write_all(bytes).await;
        let mut answer = vec![0; bytes.len()];
        let mut filled = 0;
        while filled < answer.len()
            && let Ok(read @ 1..) = stream.read(&mut answer[filled..]).await
        {
            filled += read;
        }
        answer.truncate(filled);
        answer
    }

    #[tokio::test]
    async fn bytes_pass_and_are_cut_at_the_limit() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, b"storm").await, b"storm");
        proxy.set(Mode::CutAfter(3));
        let mut second = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut second, b"storm").await, b"sto");
        assert_eq!(proxy.accepted(), 2);
    }

    #[tokio::test]
    async fn silence_stalls_without_closing_and_ends() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, b"a").await, b"a");
        proxy.set(Mode::Silent);
        let stalled = tokio::time::timeout(Duration::from_millis(100), ask(&mut stream, b"b")).await;
        assert!(stalled.is_err());
        proxy.set(Mode::Pass);
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        assert_eq!(byte, *b"b");
    }

    #[tokio::test]
    async fn a_stall_is_for_good_and_for_open_connections_only() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, b"a").await, b"a");
        proxy.stall();
        let stalled = tokio::time::timeout(Duration::from_millis(100), ask(&mut stream, b"b")).await;
        assert!(stalled.is_err());
        let mut second = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut second, b"c").await, b"c");
    }

    #[tokio::test]
    async fn refusal_closes_open_and_new_connections() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, b"a").await, b"a");
        proxy.set(Mode::Refuse);
        assert_eq!(ask(&mut stream, b"b").await, b"");
        let mut second = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut second, b"c").await, b"");
    }
}
