//! Notifications to systemd about the state of this process, by the protocol of sd_notify(3), and the liveness checks
//! that systemd requests.
//!
//! The protocol is one datagram for each state. Code of our own, rather than a crate, because those read the environment
//! at each call, so that tests in one process could not have a socket each.

use std::{
    fmt::Display,
    io,
    os::{linux::net::SocketAddrExt as _, unix::net},
    sync::Arc,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// Maximum time that a notification waits for systemd to receive earlier ones.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The supervisor of this process. Without one, every notification is a no-op.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    socket: Option<Arc<net::UnixDatagram>>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Returns the supervisor that the variables `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` describe.
    ///
    /// # Errors
    /// The socket cannot be reached.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> io::Result<Notifier> {
        let Some(path) = variable("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
            return Ok(Notifier::default());
        };
        let address = match path.strip_prefix('@') {
            Some(name) => net::SocketAddr::from_abstract_name(name)?,
            None => net::SocketAddr::from_pathname(path)?,
        };
        let socket = net::UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        Ok(Notifier { socket: Some(Arc::new(socket)), watchdog: watchdog(variable) })
    }

    /// Returns the time within which systemd expects each sign of life, if it expects any.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Reports that the process serves, after its start or after a reload.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// Reports that the process reads its files again. [`ready`](Notifier::ready) follows.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// Reports that the process stops.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Reports a sign of life.
    pub(crate) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// Describes the state in a line that `systemctl status` shows.
    pub(crate) fn status(&self, text: impl Display) {
        self.send(&format!("STATUS={text}"));
    }

    fn send(&self, state: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(state.as_bytes())
        {
            tracing::warn!(%error, state, "systemd not notified");
        }
    }
}

/// Returns the time limit of the watchdog, if it applies to this process.
fn watchdog(variable: impl Fn(&str) -> Option<String>) -> Option<Duration> {
    let is_other = |id: String| id != std::process::id().to_string();
    if variable("WATCHDOG_PID").is_some_and(is_other) {
        return None;
    }
    let micros = variable("WATCHDOG_USEC")?.parse().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The supervisor's side of a notifier.
    pub(crate) struct Supervisor {
        pub(crate) notifier: Notifier,
        socket: net::UnixDatagram,
        _dir: tempfile::TempDir,
    }

    impl Supervisor {
        pub(crate) fn new(watchdog: Duration) -> Supervisor {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("notify");
            let socket = net::UnixDatagram::bind(&path).unwrap();
            let notifier = Notifier::from_variables(|name| match name {
                "NOTIFY_SOCKET" => Some(path.display().to_string()),
                "WATCHDOG_USEC" => Some(watchdog.as_micros().to_string()),
                _ => None,
            });
            Supervisor { notifier: notifier.unwrap(), socket, _dir: dir }
        }

        /// Waits for the next notification.
        pub(crate) fn receive(&self, timeout: Duration) -> Option<String> {
            self.socket.set_read_timeout(Some(timeout)).unwrap();
            let mut buffer = [0; 512];
            let length = self.socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
        }
    }

    #[test]
    fn each_state_is_one_datagram() {
        let supervisor = Supervisor::new(Duration::from_secs(3));
        let notifier = &supervisor.notifier;
        assert_eq!(notifier.watchdog(), Some(Duration::from_secs(3)));
        notifier.ready();
        notifier.reloading();
        notifier.alive();
        notifier.status("serving");
        notifier.stopping();
        let next = || supervisor.receive(Duration::from_secs(1)).unwrap();
        assert_eq!(next(), "READY=1");
        let reloading = next();
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
        assert_eq!([next(), next(), next()], ["WATCHDOG=1", "STATUS=serving", "STOPPING=1"]);
    }

    #[test]
    fn an_abstract_socket_is_reached() {
        let name = format!("cable-notify-{}", std::process::id());
        let address = net::SocketAddr::from_abstract_name(&name).unwrap();
        let socket = net::UnixDatagram::bind_addr(&address).unwrap();
        let variable = |asked: &str| (asked == "NOTIFY_SOCKET").then(|| format!("@{name}"));
        Notifier::from_variables(variable).unwrap().ready();
        let mut buffer = [0; 16];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 7);
    }

    #[test]
    fn without_a_socket_nothing_is_sent() {
        for socket in [None, Some("")] {
            let variable = |name: &str| match name {
                "NOTIFY_SOCKET" => socket.map(str::to_owned),
                "WATCHDOG_USEC" => Some("1000000".to_owned()),
                _ => None,
            };
            let notifier = Notifier::from_variables(variable).unwrap();
            notifier.ready();
            assert_eq!(notifier.watchdog(), None);
        }
        let gone = |name: &str| (name == "NOTIFY_SOCKET").then(|| "/nonexistent/notify".to_owned());
        assert!(Notifier::from_variables(gone).is_err());
    }

    #[test]
    fn the_watchdog_applies_to_this_process_only() {
        let own = std::process::id().to_string();
        for (micros, process, expected) in [
            ("2000000", None, Some(Duration::from_secs(2))),
            ("2000000", Some(own.as_str()), Some(Duration::from_secs(2))),
            ("2000000", Some("1"), None),
            ("0", None, None),
            ("-1", None, None),
            ("soon", None, None),
        ] {
            let variable = |name: &str| match name {
                "WATCHDOG_USEC" => Some(micros.to_owned()),
                _ => process.map(str::to_owned),
            };
            assert_eq!(watchdog(variable), expected, "{micros} {process:?}");
        }
    }
}
