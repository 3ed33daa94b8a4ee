//! The thread that reads the file of an import, a bounded number of inputs ahead of the network.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use bytes::Bytes;
use cable_import::{
    Item,
    binary::{self, BinaryReader, BinaryRecord},
    feed, ghost,
    jsonl::{Line, Lines},
    markdown,
    versions::Versions,
    wxr,
};
use cable_proto::v1;
use indicatif::ProgressBar;
use prost::Message as _;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::{Command, Feed, Ghost, Markdown, Source, WordPress, pages, with_cause};
use crate::cli::{Error, progress};

/// Maximum inputs read ahead of the network. An input is at most some MiB; most are some KiB.
const MAX_READ_AHEAD: usize = 64;

/// The place of a record in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Location {
    /// The number of its line, from 1.
    Line(u64),
    /// Its number, from 1, and the byte offset at which it starts.
    Record { number: u64, offset: u64 },
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Line(number) => write!(f, "line {number}"),
            Location::Record { number, offset } => write!(f, "record {number} at byte {offset}"),
        }
    }
}

/// A part of the file, as the reading thread sends it.
pub(super) enum Input {
    /// An item of another system's file.
    Item(Item),
    /// A record of Cable, encoded.
    Record(Location, Bytes),
    /// An invalid record, and the problem.
    Invalid(Location, String),
    /// The end of the file. If the channel closes without it, the thread has stopped early.
    End,
}

/// A file that a thread reads.
pub(super) struct Reading {
    pub(super) inputs: mpsc::Receiver<Result<Input, Error>>,
    /// The source that the file states. The sender is dropped without one if the file states none.
    pub(super) source: oneshot::Receiver<String>,
}

/// Starts to read the file. The channel closes at the end of the file, or after the first error.
pub(super) fn start(command: Command, bar: ProgressBar) -> Result<Reading, Error> {
    let (sender, inputs) = mpsc::channel(MAX_READ_AHEAD);
    let (source_sender, source) = oneshot::channel();
    let runtime = Handle::current();
    let reading = move || {
        // The caller waits for the source before it receives inputs, of which the channel holds only some.
        let read = match command {
            Command::Wxr(source) => read_wxr(source, &bar, source_sender, &sender),
            Command::Markdown(source) => read_markdown(source, &bar, source_sender, &sender),
            Command::Ghost(source) => read_ghost(source, &bar, source_sender, &sender),
            Command::Feed(feed) => read_feed(feed, &runtime, &bar, source_sender, &sender),
            Command::Jsonl(Source { file, .. }) => {
                drop(source_sender);
                read_jsonl(&file, &bar, &sender)
            }
            Command::Binary(Source { file, .. }) => {
                drop(source_sender);
                read_binary(&file, &bar, &sender)
            }
        };
        // If the receiver no longer exists, the import has stopped.
        let _stopped = read.and_then(|()| send(&sender, Ok(Input::End)));
    };
    std::thread::Builder::new()
        .name("cable-import".into())
        .spawn(reading)
        .map_err(|source| Error::io("start a thread", source))?;
    Ok(Reading { inputs, source })
}

type Sender = mpsc::Sender<Result<Input, Error>>;

/// An error: the receiver of the inputs no longer exists.
struct Stopped;

fn send(sender: &Sender, input: Result<Input, Error>) -> Result<(), Stopped> {
    sender.blocking_send(input).map_err(|_| Stopped)
}

fn read_wxr(
    files: WordPress,
    bar: &ProgressBar,
    source: oneshot::Sender<String>,
    sender: &Sender,
) -> Result<(), Stopped> {
    let failed = |error: wxr::FileError| read_error(&error.file, error.error);
    let prefix = files.prefix.unwrap_or_default();
    let items = match wxr::read(files.files, &wxr::Options { now: jiff::Timestamp::now(), prefix }) {
        Ok(items) => items,
        Err(error) => return send(sender, Err(failed(error))),
    };
    // If the receiver no longer exists, the caller named the source.
    let _named = source.send(items.source().to_owned());
    progress::set_total_items(bar, items.total());
    for item in items {
        send(sender, item.map(Input::Item).map_err(failed))?;
        bar.inc(1);
    }
    Ok(())
}

fn read_markdown(
    markdown: Markdown,
    bar: &ProgressBar,
    source: oneshot::Sender<String>,
    sender: &Sender,
) -> Result<(), Stopped> {
    // If the receiver no longer exists, the caller named the source.
    let _named = source.send(markdown.common.source("markdown"));
    let Markdown { directory, permalink, drafts, utc_offset: offset, common } = markdown;
    let prefix = common.prefix.unwrap_or_default();
    let options = markdown::Options { now: jiff::Timestamp::now(), prefix, drafts, permalink, offset };
    let items = match markdown::read(&directory, &options) {
        Ok(items) => items,
        Err(error) => return send(sender, Err(read_error(&directory, error))),
    };
    progress::set_total_items(bar, items.total());
    for item in items {
        send(sender, Ok(Input::Item(item)))?;
        bar.inc(1);
    }
    Ok(())
}

fn read_ghost(
    export: Ghost,
    bar: &ProgressBar,
    source: oneshot::Sender<String>,
    sender: &Sender,
) -> Result<(), Stopped> {
    // If the receiver no longer exists, the caller named the source.
    let _named = source.send(export.common.source("ghost"));
    let Ghost { file, drafts, common } = export;
    let prefix = common.prefix.unwrap_or_default();
    let options = ghost::Options { now: jiff::Timestamp::now(), prefix, drafts };
    let export = match ghost::read(&file, &options) {
        Ok(export) => export,
        Err(error) => return send(sender, Err(read_error(&file, error))),
    };
    progress::set_total_items(bar, export.total());
    let mut is_stopped = false;
    let read = export.for_each(&mut |item| {
        bar.inc(1);
        is_stopped = send(sender, Ok(Input::Item(item))).is_err();
        !is_stopped
    });
    match read {
        _ if is_stopped => Err(Stopped),
        Ok(()) => Ok(()),
        Err(error) => send(sender, Err(read_error(&file, error))),
    }
}

fn read_feed(
    feed: Feed,
    runtime: &Handle,
    bar: &ProgressBar,
    source: oneshot::Sender<String>,
    sender: &Sender,
) -> Result<(), Stopped> {
    let Feed { from, canonical, utc_offset: offset, common } = feed;
    let prefix = common.prefix.unwrap_or_default();
    let options = feed::Options { now: jiff::Timestamp::now(), prefix, canonical, offset };
    let mut feed = feed::Feed::new(options);
    let failure = pages::add_all(&mut feed, &from, runtime, bar).err();
    // If the receiver no longer exists, the caller named the source.
    let _named = source.send(feed.source());
    progress::set_total_items(bar, feed.total());
    // The items of the pages before a failure are imported.
    for item in feed.items() {
        send(sender, Ok(Input::Item(item)))?;
        bar.inc(1);
    }
    failure.map_or(Ok(()), |problem| send(sender, Err(Error::Incomplete(problem))))
}

fn read_jsonl(file: &Path, bar: &ProgressBar, sender: &Sender) -> Result<(), Stopped> {
    let reader = match open(file, bar) {
        Ok(reader) => reader,
        Err(error) => return send(sender, Err(error)),
    };
    let mut versions = Versions::default();
    for line in Lines::new(reader) {
        let input = match line {
            Ok(Line::Record { number, record }) => {
                let bytes = || record.encode_to_vec().into();
                Ok(check_version(&mut versions, &record, Location::Line(number), bytes))
            }
            Ok(Line::Invalid { number, problem }) => Ok(Input::Invalid(Location::Line(number), problem)),
            Err(source) => return send(sender, Err(Error::io(format!("read {}", file.display()), source))),
        };
        send(sender, input)?;
    }
    Ok(())
}

fn read_binary(file: &Path, bar: &ProgressBar, sender: &Sender) -> Result<(), Stopped> {
    let failed = |error: binary::Error| read_error(file, error);
    let reader = match open(file, bar) {
        Ok(reader) => reader,
        Err(error) => return send(sender, Err(error)),
    };
    let mut versions = Versions::default();
    match BinaryReader::new(reader) {
        Ok(mut records) => records.try_for_each(|record| {
            send(sender, record.map(|record| check(record, &mut versions)).map_err(failed))
        }),
        Err(error) => send(sender, Err(failed(error))),
    }
}

/// Returns the input of a valid record, unless it contradicts one before it.
fn check_version(
    versions: &mut Versions,
    record: &v1::Record,
    location: Location,
    bytes: impl FnOnce() -> Bytes,
) -> Input {
    let (place, number) = match location {
        Location::Line(number) => ("line", number),
        Location::Record { number, .. } => ("record", number),
    };
    match versions.check(record, place, number) {
        Ok(()) => Input::Record(location, bytes()),
        Err(contradiction) => Input::Invalid(location, contradiction.to_string()),
    }
}

/// Checks that a record can be decoded: one that cannot be could cost its whole chunk. Its bytes are sent as they are,
/// with fields that this release does not know.
fn check(record: BinaryRecord, versions: &mut Versions) -> Input {
    let location = Location::Record { number: record.number, offset: record.offset };
    match record.decode() {
        Ok(decoded) => check_version(versions, &decoded, location, || record.bytes),
        Err(problem) => Input::Invalid(location, problem),
    }
}

fn open(file: &Path, bar: &ProgressBar) -> Result<Box<dyn BufRead>, Error> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(bar.wrap_read(io::stdin()))));
    }
    let failed = |source| Error::io(format!("read {}", file.display()), source);
    let opened = File::open(file).map_err(failed)?;
    progress::set_total_bytes(bar, opened.metadata().map_err(failed)?.len());
    Ok(Box::new(BufReader::with_capacity(1 << 18, bar.wrap_read(opened))))
}

/// Returns the error of a file that cannot be read any further.
fn read_error(file: &Path, error: impl std::error::Error) -> Error {
    Error::Incomplete(format!("{}: {}", file.display(), with_cause(&error)))
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, time::Duration};

    use super::{super::Options, *};

    #[tokio::test]
    async fn the_source_is_known_before_the_inputs_are_received() {
        let line = "{\"tag\":{\"name\":\"tags/a\"}}\n";
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(line.repeat(3 * MAX_READ_AHEAD).as_bytes()).unwrap();
        let command = Command::Jsonl(Source { file: file.path().to_owned(), options: Options::default() });
        let Reading { mut inputs, source } = start(command, ProgressBar::hidden()).unwrap();
        let source = tokio::time::timeout(Duration::from_secs(30), source).await.unwrap();
        assert!(source.is_err(), "a file of records has no source of its own");
        let mut count = 0;
        while let Some(Ok(Input::Record(..))) = inputs.recv().await {
            count += 1;
        }
        assert_eq!(count, 3 * MAX_READ_AHEAD);
    }
}
