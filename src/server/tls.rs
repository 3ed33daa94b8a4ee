//! TLS of the listener: the certificate in use, and the handshakes of new connections.

use std::{
    fmt, io,
    pin::pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, Semaphore, SemaphorePermit},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::UnixTime, time_provider::TimeProvider},
    server::TlsStream,
};

use super::peer::ClientCertificate;
use crate::{clock::Clock, telemetry::Metrics};

mod files;
mod reload;

pub(super) use files::Files;
pub(super) use reload::Reloader;

/// The maximum number of handshakes at once. One mostly waits for its peer, and holds up to 100 KiB if the peer sends a
/// long chain of certificates.
const MAX_HANDSHAKES: usize = 256;

const TIMEOUTS: Timeouts = Timeouts {
    start: Duration::from_secs(20),
    handshake: Duration::from_secs(5),
    contended: Duration::from_secs(1),
};

/// The time limits of handshakes.
#[derive(Debug, Clone, Copy)]
struct Timeouts {
    /// The maximum time that a connection waits for the start of its handshake. After a restart all clients connect at
    /// once, and one core completes some hundred handshakes each second.
    start: Duration,
    /// The maximum time of a handshake.
    handshake: Duration,
    /// The maximum time of a handshake that others wait for. A peer that is silent, or stops half-way, must not delay
    /// those that do not: if such peers use all slots, each slot is free again after this time.
    contended: Duration,
}

/// The names of the protocols in ALPN, by preference.
const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// A protocol that a client has negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http2,
    Http1,
}

/// TLS of a listener.
pub(super) struct Tls {
    config: RwLock<Arc<ServerConfig>>,
    handshakes: Handshakes,
    metrics: Arc<Metrics>,
}

/// A connection after its handshake.
pub(super) struct Secured<T> {
    pub(super) io: TlsStream<T>,
    pub(super) certificate: Option<ClientCertificate>,
    /// None if the client has not negotiated one. Its first bytes show which it uses.
    pub(super) protocol: Option<Protocol>,
}

impl Tls {
    fn new(config: Arc<ServerConfig>, metrics: Arc<Metrics>) -> Tls {
        Tls { config: RwLock::new(config), handshakes: Handshakes::new(MAX_HANDSHAKES, TIMEOUTS), metrics }
    }

    /// Replaces the certificate, the key and the client CA. They apply to handshakes that start from now on.
    fn replace(&self, config: Arc<ServerConfig>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }

    /// Performs the handshake of a connection.
    ///
    /// # Errors
    /// The peer does not complete the handshake in time, or has no valid certificate although it needs one.
    pub(super) async fn accept<T: AsyncRead + AsyncWrite + Unpin>(&self, io: T) -> io::Result<Secured<T>> {
        let handshake = self.handshakes.run(|| self.acceptor().accept(io)).await;
        let secured = handshake.and_then(Secured::new);
        if secured.is_err() {
            self.metrics.tls_handshake_failures.inc();
        }
        secured
    }
}

impl<T> Secured<T> {
    /// # Errors
    /// The client certificate has too many names.
    fn new(io: TlsStream<T>) -> io::Result<Secured<T>> {
        let (_, session) = io.get_ref();
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        let certificate = leaf.map(|leaf| ClientCertificate::parse(leaf)).transpose();
        let certificate = certificate.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let protocol = session.alpn_protocol().map(|name| match name {
            HTTP_2 => Protocol::Http2,
            _ => Protocol::Http1,
        });
        Ok(Secured { io, certificate, protocol })
    }
}

/// Limits the handshakes that are in progress.
struct Handshakes {
    timeouts: Timeouts,
    slots: Semaphore,
    /// The number of connections that wait for a slot, and the notification that one has started to wait.
    waiting: AtomicUsize,
    contended: Notify,
}

impl Handshakes {
    fn new(max: usize, timeouts: Timeouts) -> Handshakes {
        let (slots, waiting) = (Semaphore::new(max), AtomicUsize::new(0));
        Handshakes { timeouts, slots, waiting, contended: Notify::new() }
    }

    /// Runs a handshake once there is a slot for it.
    async fn run<T, F: Future<Output = io::Result<T>>>(&self, start: impl FnOnce() -> F) -> io::Result<T> {
        let Timeouts { start: start_timeout, handshake: total, contended } = self.timeouts;
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let _slot = timeout(start_timeout, self.acquire_slot()).await.map_err(late)?;
        let mut handshake = pin!(start());
        if let Ok(done) = timeout(contended, &mut handshake).await {
            return done;
        }
        tokio::select! {
            biased;
            done = timeout(total - contended, handshake) => done.map_err(late)?,
            () = self.wait_for_contention() => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn acquire_slot(&self) -> SemaphorePermit<'_> {
        if let Ok(slot) = self.slots.try_acquire() {
            return slot;
        }
        let _waiting = Waiting::new(&self.waiting);
        self.contended.notify_one();
        self.slots.acquire().await.expect("the semaphore is never closed")
    }

    /// Waits until a connection waits for a slot.
    async fn wait_for_contention(&self) {
        while self.waiting.load(Relaxed) == 0 {
            self.contended.notified().await;
        }
    }
}

/// Counts a connection that waits for a slot.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn new(count: &AtomicUsize) -> Waiting<'_> {
        count.fetch_add(1, Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The node's clock, for checks of certificates.
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let micros = u64::try_from(self.0.now()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_micros(micros)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::{FutureExt as _, future::join_all};
    use tokio::time::{Instant, sleep};

    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const SHORT: Timeouts = Timeouts { start: millis(2_000), handshake: millis(500), contended: millis(100) };

    fn silent() -> impl Future<Output = io::Result<()>> {
        pending()
    }

    #[tokio::test]
    async fn a_handshake_has_limited_time() {
        let handshakes = Handshakes::new(1, SHORT);
        assert!(handshakes.run(|| ready(Ok(()))).now_or_never().unwrap().is_ok());
        let start = Instant::now();
        let error = handshakes.run(silent).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= millis(500), "nothing else waits");
    }

    #[tokio::test]
    async fn a_handshake_that_others_wait_for_has_less_time() {
        let timeouts = Timeouts { handshake: Duration::from_secs(600), ..SHORT };
        let handshakes = Handshakes::new(2, timeouts);
        let start = Instant::now();
        let late = async {
            sleep(millis(300)).await;
            handshakes.run(|| ready(Ok(()))).await
        };
        let silent = async { futures_util::join!(handshakes.run(silent), handshakes.run(silent)) };
        let (silent, late) = futures_util::join!(tokio::time::timeout(millis(1_500), silent), late);
        assert!(late.is_ok() && start.elapsed() >= millis(1_500), "the other one has its time");
        assert!(silent.is_err());
    }

    #[tokio::test]
    async fn silent_peers_delay_others_for_a_short_time() {
        let timeouts = Timeouts { handshake: Duration::from_secs(600), ..SHORT };
        let handshakes = Handshakes::new(10, timeouts);
        let start = Instant::now();
        let silent = join_all((0..30).map(|_| handshakes.run(silent))).then(|_| pending::<Duration>());
        let served = async {
            handshakes.run(|| ready(Ok(()))).await.unwrap();
            start.elapsed()
        };
        let served = tokio::select! { biased; served = silent => served, served = served => served };
        assert!(served >= millis(200), "three rounds of silent peers come first: {served:?}");
        assert_eq!(handshakes.waiting.load(Relaxed), 0);
        assert_eq!(handshakes.slots.available_permits(), 10);
    }

    #[tokio::test]
    async fn a_connection_does_not_wait_for_ever_for_its_handshake() {
        let timeouts = Timeouts { start: millis(50), ..SHORT };
        let handshakes = Handshakes::new(1, timeouts);
        let silent = join_all((0..10).map(|_| handshakes.run(silent))).await;
        assert!(silent.iter().all(Result::is_err));
        assert_eq!(handshakes.slots.available_permits(), 1);
    }
}
