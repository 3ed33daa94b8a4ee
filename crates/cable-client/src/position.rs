//! Storage for the position of a feed, so that the feed resumes after a restart.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::sleep};

use crate::{Cable, Error, ErrorKind, ErrorReason, Position, Result};

/// The shortest interval between two writes of a position while a feed runs.
const WRITE_INTERVAL: Duration = Duration::from_millis(200);

/// The pause before an acknowledgement that no node has accepted is sent again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A store for the position of one feed: [`FilePosition`], or your own implementation.
///
/// Both methods may block. The feed calls them on the runtime's threads for blocking work; it also calls `save` on the
/// thread that drops the feed. A follower that writes the feed's content to a database should instead write
/// [`Delivery::position`](crate::Delivery::position) in the same transaction and start
/// [`after`](crate::FeedBuilder::after) it: then no delivery is applied twice.
///
/// ```
/// use std::{io, sync::Mutex};
/// use cable_client::{Position, PositionStore};
///
/// /// A store for tests: the position does not survive the process.
/// #[derive(Default)]
/// struct Memory(Mutex<Option<Position>>);
///
/// impl PositionStore for Memory {
///     fn load(&self) -> io::Result<Option<Position>> {
///         Ok(self.0.lock().unwrap().clone())
///     }
///
///     fn save(&self, position: &Position) -> io::Result<()> {
///         *self.0.lock().unwrap() = Some(position.clone());
///         Ok(())
///     }
/// }
/// ```
pub trait PositionStore: Send + Sync + 'static {
    /// Returns the position that was saved last. `None` if none was ever saved.
    ///
    /// # Errors
    /// The position cannot be read, or is not the one that was written. The feed then ends with
    /// [`ErrorKind::PositionStore`](crate::ErrorKind::PositionStore) instead of starting from another position.
    fn load(&self) -> io::Result<Option<Position>>;

    /// Saves a position in place of the previous one. Once the method returns, the position must survive a crash.
    ///
    /// # Errors
    /// The position could not be saved; the previous one is intact. The feed then ends.
    fn save(&self, position: &Position) -> io::Result<()>;
}

macro_rules! pointers_to_stores {
    ($($pointer:ident),*) => {$(
        impl<S: PositionStore + ?Sized> PositionStore for $pointer<S> {
            fn load(&self) -> io::Result<Option<Position>> {
                (**self).load()
            }

            fn save(&self, position: &Position) -> io::Result<()> {
                (**self).save(position)
            }
        }
    )*};
}

pointers_to_stores!(Arc, Box);

/// A file that contains one position: a line with its text, `{log id}:{revision}:{chain in hex}`.
///
/// Each position is written to a new file, whose name ends with `.new`, which is synced and then renamed. After a
/// crash, the file thus contains either the old position or the new one. A file belongs to one feed.
///
/// ```
/// use cable_client::{FilePosition, PositionStore as _};
///
/// let file = FilePosition::new("no-such-file.position");
/// assert_eq!(file.load()?, None);
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FilePosition {
    path: PathBuf,
}

impl FilePosition {
    /// Returns the position file at this path. The file need not exist yet, but its directory must.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        FilePosition { path: path.into() }
    }

    /// Returns the path of the new file until it is renamed.
    fn temporary_path(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        name.into()
    }

    fn directory(&self) -> &Path {
        self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }
}

impl PositionStore for FilePosition {
    fn load(&self) -> io::Result<Option<Position>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "invalid position file");
        // Only a complete line is a position.
        let line = text.strip_suffix('\n').ok_or_else(invalid)?;
        line.parse().map(Some).map_err(|_| invalid())
    }

    fn save(&self, position: &Position) -> io::Result<()> {
        let temporary = self.temporary_path();
        let mut file = File::create(&temporary)?;
        writeln!(file, "{position}")?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        // The rename is on disk once the directory is synced.
        File::open(self.directory())?.sync_all()
    }
}

/// A writer for the positions that the user of a feed has handled. It writes with a delay, and only the newest
/// position.
pub(crate) struct Saver {
    target: Target,
    pending: Mutex<Pending>,
    /// A lock for the time of a write, so that the newest position is written last.
    writing: Mutex<()>,
}

/// Where positions are saved.
enum Target {
    Store(Arc<dyn PositionStore>),
    /// The node, as the acknowledged position of a consumer.
    Node {
        cable: Cable,
        consumer: String,
    },
}

/// The position that waits to be written, and the error of the last write.
#[derive(Default)]
struct Pending {
    /// The position to write.
    handled: Option<Position>,
    /// The newest position that was loaded or handled.
    newest: Option<Position>,
    scheduled: bool,
    error: Option<Error>,
    /// Whether the feed is dropped.
    closed: bool,
}

impl Saver {
    pub(crate) fn to_store(store: Arc<dyn PositionStore>) -> Self {
        Saver { target: Target::Store(store), pending: Mutex::default(), writing: Mutex::default() }
    }

    /// Returns a writer that acknowledges positions as a consumer.
    pub(crate) fn to_node(cable: Cable, consumer: String) -> Self {
        let target = Target::Node { cable, consumer };
        Saver { target, pending: Mutex::default(), writing: Mutex::default() }
    }

    /// Loads the position that was saved last, which a later save of the same position does not repeat. A node starts the
    /// feed of a consumer there itself.
    pub(crate) async fn load(self: &Arc<Self>) -> Result<Option<Position>> {
        let Target::Store(store) = &self.target else { return Ok(None) };
        let store = Arc::clone(store);
        let loaded = spawn_blocking(move || store.load()).await.unwrap_or_else(|e| Err(e.into()));
        let position = loaded.map_err(|error| store_error("loaded", error))?;
        self.pending().newest.clone_from(&position);
        Ok(position)
    }

    /// Marks everything up to this position as handled. The position is written soon.
    ///
    /// # Errors
    /// An earlier position could not be written.
    pub(crate) fn mark_handled(self: &Arc<Self>, position: Position) -> Result<()> {
        let mut pending = self.pending();
        if let Some(error) = pending.error.take() {
            return Err(error);
        }
        if pending.newest.as_ref() == Some(&position) {
            return Ok(());
        }
        pending.newest = Some(position.clone());
        pending.handled = Some(position);
        if !std::mem::replace(&mut pending.scheduled, true) {
            tokio::spawn(Arc::clone(self).write_after_delay());
        }
        Ok(())
    }

    /// Writes the newest handled position after the write interval. An error is reported by the next call of the saver.
    async fn write_after_delay(self: Arc<Self>) {
        sleep(WRITE_INTERVAL).await;
        self.pending().scheduled = false;
        while let Err(error) = self.write().await {
            if !self.schedule_retry(error) {
                return;
            }
            sleep(RETRY_INTERVAL).await;
            self.pending().scheduled = false;
        }
    }

    /// Handles the error of a write. Returns whether to write again later: a feed reconnects when no node accepts its
    /// acknowledgement, so that does not end it.
    fn schedule_retry(&self, error: Error) -> bool {
        let mut pending = self.pending();
        if pending.closed || !may_pass(&error) {
            pending.error = Some(error);
            return false;
        }
        !std::mem::replace(&mut pending.scheduled, true)
    }

    /// Writes the pending position immediately.
    async fn write(self: &Arc<Self>) -> Result<()> {
        match &self.target {
            Target::Store(store) => {
                let (saver, store) = (Arc::clone(self), Arc::clone(store));
                let written = spawn_blocking(move || saver.write_to(&*store)).await;
                written.unwrap_or_else(|e| Err(e.into())).map_err(|error| store_error("saved", error))
            }
            Target::Node { cable, consumer } => {
                let Some(position) = self.pending().handled.take() else { return Ok(()) };
                match cable.acknowledge(consumer, &position).await {
                    Ok(_) => Ok(()),
                    Err(error) if is_of_no_feed(&error) => Ok(()),
                    Err(error) => {
                        self.pending().handled.get_or_insert(position);
                        Err(error)
                    }
                }
            }
        }
    }

    fn write_to(&self, store: &dyn PositionStore) -> io::Result<()> {
        let _guard = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(position) = self.pending().handled.take() else { return Ok(()) };
        let saved = store.save(&position);
        if saved.is_err() {
            self.pending().handled.get_or_insert(position);
        }
        saved
    }

    /// Writes the pending position immediately, for a feed that is dropped. An acknowledgement is sent if there is a
    /// runtime, by a task of its own.
    pub(crate) fn close(self: &Arc<Self>) {
        self.pending().closed = true;
        // There is no caller left to report an error to. If the write fails, the deliveries are repeated later.
        match (&self.target, tokio::runtime::Handle::try_current()) {
            (Target::Store(store), _) => drop(self.write_to(&**store)),
            (Target::Node { .. }, Ok(runtime)) if self.pending().handled.is_some() => {
                let saver = Arc::clone(self);
                drop(runtime.spawn(async move { saver.write().await }));
            }
            (Target::Node { .. }, _) => {}
        }
    }

    /// Writes the pending position immediately, and reports an error.
    pub(crate) async fn flush(self: &Arc<Self>) -> Result<()> {
        let error = self.pending().error.take();
        match error {
            Some(error) => Err(error),
            None => self.write().await,
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether a later attempt of an acknowledgement can succeed.
fn may_pass(error: &Error) -> bool {
    use ErrorKind::{Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable};
    matches!(error.kind(), Cancelled | DeadlineExceeded | ResourceExhausted | Unavailable)
}

/// Returns whether no feed can resume after the position of an acknowledgement. The feed learns that itself.
fn is_of_no_feed(error: &Error) -> bool {
    matches!(error.reason(), Some(ErrorReason::LogChanged | ErrorReason::RevisionCompacted))
}

/// Returns the error of the kind `PositionStore` for a failed load or save.
fn store_error(action: &str, source: io::Error) -> Error {
    let message = format!("feed position could not be {action}: {source}");
    Error::new(ErrorKind::PositionStore, message).with_source(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(revision: i64) -> Position {
        Position { log_id: "0123abcd".into(), revision, chain: vec![0, 0xff, 0x10].into() }
    }

    fn file(name: &str) -> (PathBuf, FilePosition) {
        let dir = std::env::temp_dir().join(format!("cable-position-{name}-{:032x}", fastrand::u128(..)));
        fs::create_dir(&dir).unwrap();
        let file = FilePosition::new(dir.join("feed"));
        (dir, file)
    }

    #[test]
    fn the_last_saved_position_is_loaded() {
        let (dir, file) = file("last");
        assert_eq!(file.load().unwrap(), None);
        for revision in [7, 8] {
            file.save(&position(revision)).unwrap();
            assert_eq!(file.load().unwrap(), Some(position(revision)));
        }
        assert_eq!(fs::read_to_string(dir.join("feed")).unwrap(), "0123abcd:8:00ff10\n");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        let bare = Position { revision: 3, ..Position::default() };
        file.save(&bare).unwrap();
        assert_eq!(file.load().unwrap(), Some(bare));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_partial_write_leaves_the_previous_position() {
        let (dir, file) = file("crash");
        file.save(&position(7)).unwrap();
        let complete = format!("{}\n", position(8));
        for end in 0..complete.len() {
            fs::write(dir.join("feed.new"), &complete[..end]).unwrap();
            assert_eq!(file.load().unwrap(), Some(position(7)), "cut at {end}");
        }
        file.save(&position(9)).unwrap();
        assert_eq!(file.load().unwrap(), Some(position(9)));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_truncated_file_is_an_error() {
        let (dir, file) = file("damage");
        let complete = format!("{}\n", position(8));
        for end in 0..complete.len() {
            fs::write(dir.join("feed"), &complete[..end]).unwrap();
            assert_eq!(file.load().unwrap_err().kind(), io::ErrorKind::InvalidData, "cut at {end}");
        }
        for invalid in ["0123abcd:x:00\n", "0123abcd 7 00\n", "0123abcd:7:0\u{e9}0\n", "0123abcd:7:zz\n"] {
            fs::write(dir.join("feed"), invalid).unwrap();
            assert!(file.load().is_err(), "{invalid:?}");
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_failed_save_leaves_the_previous_position() {
        let (dir, file) = file("full");
        file.save(&position(7)).unwrap();
        fs::create_dir(dir.join("feed.new")).unwrap();
        assert!(file.save(&position(8)).is_err());
        assert_eq!(file.load().unwrap(), Some(position(7)));
        fs::remove_dir_all(dir).unwrap();
    }
}
