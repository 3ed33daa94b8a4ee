//! The audit log: who changed what, when and from where, who was refused, and when the node ran.
//!
//! In a file, a line of a write is on disk before the write is committed, so no change is without a line. A write whose
//! line cannot be written is refused. If the commit itself fails, another line states that the changes did not happen.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    clock::Clock,
    config,
    health::{Condition, Health},
    model::{LogId, Revision},
    telemetry::SpanContext,
};

mod budget;
mod chain;
mod file;
mod line;

pub(crate) use budget::Budget;
pub use chain::{Chain, VerifyError, verify};
use file::{AuditFile, Limits, Line};
pub(crate) use line::{Action, Change, Event, display_peer};

/// The maximum number of denials that the log records per minute. It bounds what callers without a credential can write
/// to the disk: about 50 MB a day. Further ones are counted in one line.
const MAX_DENIALS_PER_MINUTE: u32 = 60;

/// How often denials and reloads are written, which wait for nothing.
const FLUSH_INTERVAL: Duration = Duration::from_millis(250);

/// The maximum number of events that wait to be written: more than the denials of two minutes.
const MAX_WAITING: usize = 256;

/// The origin of a call: its caller, address and method.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Origin {
    /// The name of the caller.
    pub(crate) principal: String,
    /// The id of the credential, which is not secret.
    pub(crate) credential: Option<String>,
    pub(crate) peer: Option<IpAddr>,
    /// The method, as `package.Service/Method`.
    pub(crate) method: String,
    pub(crate) request_id: String,
    /// Whether changes that are appended together have one line: those of an import.
    pub(crate) summarised: bool,
    /// The span of the call, if it is traced.
    pub(crate) span: Option<SpanContext>,
}

impl Origin {
    /// Returns the origin of a call. `credential` is the id of the caller's credential.
    pub(crate) fn new(
        principal: &str,
        credential: Option<&str>,
        peer: IpAddr,
        method: &str,
        request_id: &str,
    ) -> Origin {
        Origin {
            principal: principal.to_owned(),
            credential: credential.map(str::to_owned),
            peer: Some(peer),
            method: method.to_owned(),
            request_id: request_id.to_owned(),
            summarised: false,
            span: None,
        }
    }

    /// Returns the origin of changes that the node makes when they are due.
    pub(crate) fn scheduler() -> Origin {
        let [principal, method] = ["scheduler", "scheduler"].map(str::to_owned);
        Origin {
            principal,
            credential: None,
            peer: None,
            method,
            request_id: String::new(),
            summarised: false,
            span: None,
        }
    }
}

/// The audit log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the audit log {}: set `audit.file` to another path", path.display())]
pub struct AuditError {
    /// The file.
    pub path: PathBuf,
    /// The error of the operating system.
    pub source: io::Error,
}

/// The audit log of a node.
pub(crate) struct Audit {
    sink: Sink,
    clock: Clock,
    health: Arc<Health>,
    denials: Budget,
    /// Events that wait for nothing.
    waiting: Mutex<Vec<Event>>,
    /// Events that could not be written.
    failures: AtomicU64,
}

enum Sink {
    /// The log of the node's other events, under the target `audit`.
    Log,
    File(Box<Mutex<AuditFile>>),
}

/// Why a write was refused: its line cannot be written.
#[derive(Debug, Clone)]
pub(crate) struct NotAudited {
    pub(crate) cause: Arc<str>,
    /// When writes are accepted again.
    pub(crate) until: &'static str,
}

impl Audit {
    /// Opens the audit log that the settings name.
    ///
    /// # Errors
    /// The file cannot be opened, or is not an audit log.
    pub(crate) fn open(
        settings: &config::Audit,
        clock: Clock,
        health: Arc<Health>,
    ) -> Result<Audit, AuditError> {
        let limits = Limits { file_bytes: settings.max_file_bytes, files: settings.max_files };
        let sink = match settings.file.clone() {
            None => Sink::Log,
            Some(path) => {
                let file = AuditFile::open(&path, limits);
                let file = file.map_err(|source| AuditError { path: path.clone(), source })?;
                Sink::File(Box::new(Mutex::new(file)))
            }
        };
        Ok(Audit {
            sink,
            clock,
            health,
            denials: Budget::new(MAX_DENIALS_PER_MINUTE, Duration::from_secs(60)),
            waiting: Mutex::default(),
            failures: AtomicU64::new(0),
        })
    }

    /// Checks that the directory of the file exists.
    ///
    /// # Errors
    /// It does not, or is none.
    pub(crate) fn check_directory(settings: &config::Audit) -> Result<(), AuditError> {
        let Some(path) = settings.file.clone() else { return Ok(()) };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        match std::fs::metadata(parent.unwrap_or(Path::new("."))) {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => Err(AuditError { path, source: io::ErrorKind::NotADirectory.into() }),
            Err(source) => Err(AuditError { path, source }),
        }
    }

    /// Returns an audit log in the log of other events.
    #[cfg(test)]
    pub(crate) fn to_log() -> Arc<Audit> {
        Arc::new(Audit::open(&config::Audit::default(), Clock::system(), Arc::default()).expect("no file"))
    }

    /// Records the start of the node. If the newest line does not describe the head of the store, a line before it states
    /// why. Without space the node still starts: reads are served, and these lines precede the next write.
    pub(crate) fn start(&self, log_id: LogId, head: Revision) {
        let described = self.file().map(|file| file.head());
        let mut events = Vec::with_capacity(2);
        // First, so that it is written even if the rest is cut short: a line at `head` would hide the difference.
        match described {
            Some(described) if described > head => events.push(Event::NotCommitted {
                after: head,
                to: described,
                reason: "the node ended before the commit, or an older store was restored".to_owned(),
            }),
            Some(described) if described < head => {
                events.push(Event::Unrecorded { after: described, to: head });
            }
            _ => {}
        }
        events.push(Event::Start { log_id });
        self.append_or_defer(head, &events);
        self.publish(events.into_iter());
    }

    /// Records the end of the node.
    pub(crate) fn stop(&self, failure: Option<String>) {
        if let Some(count) = self.denials.drain_omitted() {
            self.submit(Event::DenialsOmitted { count });
        }
        self.submit(Event::Stop { failure });
        self.flush();
    }

    /// Writes the lines of changes that are about to be committed, each with the revision after it. They are on disk
    /// when this returns.
    ///
    /// # Errors
    /// The lines cannot be written, so the changes must not be committed.
    pub(crate) fn record(&self, lines: &[(Option<Revision>, Event)]) -> Result<(), NotAudited> {
        if lines.is_empty() {
            return Ok(());
        }
        let Err(error) = self.append(lines) else { return Ok(()) };
        let until = match self.file().and_then(|file| file.broken()) {
            Some(_) => "this node is restarted",
            None => "the audit log can be written",
        };
        Err(NotAudited { cause: format!("audit log: {error}").into(), until })
    }

    /// Notes that recorded changes were committed.
    pub(crate) fn committed(&self, lines: Vec<(Option<Revision>, Event)>) {
        self.publish(lines.into_iter().map(|(_, event)| event));
    }

    /// Records that the changes of recorded lines were not committed: the store remains at `head`. If there is no space
    /// for this line, it precedes the next one that is written.
    pub(crate) fn not_committed(
        &self,
        head: Revision,
        lines: &[(Option<Revision>, Event)],
        reason: &dyn std::error::Error,
    ) {
        let Some(to) = lines.iter().filter_map(|(to, _)| *to).max() else { return };
        self.append_or_defer(head, &[Event::NotCommitted { after: head, to, reason: reason.to_string() }]);
    }

    /// Records that a call was refused because of who made it, up to a number per minute.
    pub(crate) fn deny(&self, denial: impl FnOnce() -> Event) {
        if self.denials.take() {
            self.submit(denial());
        }
    }

    /// Records an event that nothing waits for.
    pub(crate) fn submit(&self, event: Event) {
        let mut waiting = self.waiting();
        if waiting.len() < MAX_WAITING {
            waiting.push(event);
        } else {
            self.failures.fetch_add(1, Relaxed);
        }
    }

    /// Returns the number of events that could not be written.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Writes events that wait, and follows a file that is lost. Never returns.
    pub(crate) async fn run(self: Arc<Audit>) {
        loop {
            tokio::time::sleep(FLUSH_INTERVAL).await;
            let audit = self.clone();
            let _panicked = tokio::task::spawn_blocking(move || audit.flush()).await;
        }
    }

    /// Writes the events that wait. After a failure, a line shows whether the log can be written again.
    fn flush(&self) {
        let mut events = std::mem::take(&mut *self.waiting());
        let (has_room, is_due) =
            self.file().map_or((true, false), |file| (file.has_room_for_denials(), file.is_due()));
        if has_room {
            events.extend(self.denials.take_omitted().map(|count| Event::DenialsOmitted { count }));
        } else {
            let all = events.len();
            events.retain(|event| !matches!(event, Event::Denial { .. }));
            self.denials.omit((all - events.len()) as u64);
        }
        if self.is_failing() {
            events.insert(0, Event::Resumed);
        }
        if events.is_empty() && !is_due {
            return;
        }
        // The head is that of the line before, whatever was written since.
        let lines: Vec<_> = events.into_iter().map(|event| (None, event)).collect();
        if self.append(&lines).is_ok() {
            self.committed(lines);
        }
    }

    /// Appends lines to the file, if there is one.
    fn append(&self, lines: &[(Option<Revision>, Event)]) -> io::Result<()> {
        let time = self.clock.now();
        let new = lines.iter().map(|(head, event)| Line::new(*head, event, time));
        let new: Vec<_> = self.has_file().then_some(new).into_iter().flatten().collect();
        self.write(lines.len(), |file| file.append(time, &new))
    }

    /// Appends lines to the file, if there is one. If it cannot be written, they precede the next line.
    fn append_or_defer(&self, head: Revision, events: &[Event]) {
        let time = self.clock.now();
        let lines = events.iter().map(|event| Line::new(Some(head), event, time));
        let _reported = self.write(0, |file| file.append_or_defer(time, lines));
    }

    /// Writes to the file, if there is one, and reports the result. If it fails, `events` events were not recorded.
    fn write(&self, events: usize, write: impl FnOnce(&mut AuditFile) -> io::Result<()>) -> io::Result<()> {
        let Some(mut file) = self.file() else { return Ok(()) };
        let written = write(&mut file);
        drop(file);
        match &written {
            Ok(()) => self.health.clear(Condition::AuditFailed),
            Err(error) => {
                self.failures.fetch_add(events as u64, Relaxed);
                self.health.report(Condition::AuditFailed, error);
            }
        }
        written
    }

    /// Logs events, if there is no file.
    fn publish(&self, events: impl Iterator<Item = Event>) {
        if !self.has_file() {
            for event in events {
                tracing::info!(target: "audit", "{{{}}}", event.members(self.clock.now()).as_str());
            }
        }
    }

    fn is_failing(&self) -> bool {
        self.health.cause(Condition::AuditFailed).is_some()
    }

    fn has_file(&self) -> bool {
        matches!(self.sink, Sink::File(_))
    }

    fn file(&self) -> Option<MutexGuard<'_, AuditFile>> {
        match &self.sink {
            Sink::Log => None,
            Sink::File(file) => Some(file.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Event>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
