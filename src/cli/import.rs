//! `cable import`: converts the items of a file to records, sends them to the service in chunks, and accounts for each
//! one.
//!
//! A thread of its own reads the file, a bounded number of inputs ahead of the network.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use cable_client::{Cable, ImportAck, RawRecord, v1};
use cable_import::{
    Item, ItemOutcome,
    binary::{self, BinaryReader},
    feed, ghost,
    jsonl::{Line, Lines},
    markdown,
    report::Report,
    times, wxr,
};
use futures_util::{Stream, StreamExt as _, stream};
use indicatif::ProgressBar;
use jiff::tz::Offset;
use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

use super::{Error, fetch, note, output::Output, progress};

use cable::admin;
use cable_proto::code_name;

/// Maximum inputs read ahead of the network. An input is at most some MiB; most are some KiB.
const MAX_READ_AHEAD: usize = 64;

const RETRY_HINT: &str = "repeat the command to import the rest; unchanged records are not written again";

/// The message for a reading thread that has panicked; the panic has been printed already.
const READER_PANICKED: &str = "internal error while reading the file: the rest was not imported";

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Import a WordPress export (WXR 1.0 to 1.2).
    Wxr(WordPress),
    /// Import a directory of Markdown files with front matter (Hugo, Jekyll or plain).
    Markdown(Markdown),
    /// Import an export of Ghost (JSON).
    Ghost(Ghost),
    /// Import a feed: RSS, Atom or JSON Feed.
    Feed(Feed),
    /// Import JSON lines, one record each, as `cable export` writes them.
    Jsonl(Source),
    /// Import records as `cable export --as binary` writes them; fields unknown to this release survive.
    Binary(Source),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Source {
    /// File to import; `-` is standard input.
    file: PathBuf,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WordPress {
    /// Files of one export. They are read twice, so that posts in one file can refer to pictures in another.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Prefix for the ids of articles, authors, sections and tags, which are unique within one site only; a hyphen
    /// follows it [default: none].
    #[arg(long, value_parser = prefix)]
    prefix: Option<String>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Markdown {
    /// Directory of the files, such as `content`. Symbolic links are not followed.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Pattern of the paths, such as `/:year/:month/:slug/` [default: that of Jekyll below `_posts`, else the directory
    /// and the slug].
    #[arg(long, value_name = "PATTERN", value_parser = permalink)]
    permalink: Option<String>,
    /// Import drafts, too, as pending versions without a time.
    #[arg(long)]
    drafts: bool,
    /// Offset of times without a zone, such as `+02:00` [default: UTC, with a note for each].
    #[arg(long, value_name = "OFFSET", value_parser = offset, allow_hyphen_values = true)]
    utc_offset: Option<Offset>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Ghost {
    /// File of the export. It is read twice.
    file: PathBuf,
    /// Import drafts, too, as pending versions without a time.
    #[arg(long)]
    drafts: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Feed {
    /// Address of the feed, or file; `-` is standard input. The further pages of a feed are fetched, too, unless it is a
    /// file.
    #[arg(value_name = "URL-or-FILE")]
    from: String,
    /// Take the links of the items as canonical URLs, not as paths: for content of another publisher.
    #[arg(long)]
    canonical: bool,
    /// Offset of times without a zone, such as `+02:00` [default: UTC, with a note for each].
    #[arg(long, value_name = "OFFSET", value_parser = offset, allow_hyphen_values = true)]
    utc_offset: Option<Offset>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Prefix for the ids of articles, authors, sections and tags, which are unique within one site only; a hyphen
    /// follows it [default: none].
    #[arg(long, value_parser = prefix)]
    prefix: Option<String>,
    #[command(flatten)]
    options: Options,
}

impl Common {
    /// Returns the name of the source if the content states none: the system, and the prefix if there is one.
    fn source(&self, system: &str) -> String {
        self.prefix.as_ref().map_or(system.to_owned(), |prefix| format!("{system}:{prefix}"))
    }
}

/// Parses a pattern of paths.
fn permalink(text: &str) -> Result<String, String> {
    markdown::check_permalink(text).map(|()| text.to_owned())
}

/// Parses an offset from UTC.
fn offset(text: &str) -> Result<Offset, String> {
    times::parse_offset(text).ok_or_else(|| "must be an offset such as `+02:00`, or `Z`".to_owned())
}

#[derive(Debug, Default, Clone, clap::Args)]
struct Options {
    /// File for the report: one JSON object per line for each item of the file, and for each record that was refused.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Replace also what was changed or removed since its import, except killed names.
    #[arg(long)]
    overwrite: bool,
    /// Report what an import would do to the content as it is, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Name of the system that the records come from; versions of different sources never replace each other [default:
    /// for WXR and feeds, the address of the site; for Markdown and Ghost, the format with the prefix; else none].
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// Maximum length of a prefix in bytes: a quarter of an id.
const MAX_PREFIX_BYTES: usize = 32;

/// Parses a prefix of ids.
fn prefix(text: &str) -> Result<String, String> {
    let is_in_ids = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.is_empty() || text.len() > MAX_PREFIX_BYTES || !text.bytes().all(is_in_ids) {
        return Err(format!("must be 1 to {MAX_PREFIX_BYTES} characters of A-Z a-z 0-9 . _ -"));
    }
    Ok(text.to_owned())
}

impl Command {
    fn options(&self) -> &Options {
        let (Command::Wxr(WordPress { options, .. })
        | Command::Markdown(Markdown { common: Common { options, .. }, .. })
        | Command::Ghost(Ghost { common: Common { options, .. }, .. })
        | Command::Feed(Feed { common: Common { options, .. }, .. })
        | Command::Jsonl(Source { options, .. })
        | Command::Binary(Source { options, .. })) = self;
        options
    }
}

/// A part of the file, as the reading thread sends it.
enum Input {
    /// An item of another system's file.
    Item(Item),
    /// A record of Cable.
    Record(Bytes),
    /// An invalid record: its location in the file, and the problem.
    Invalid(String, String),
    /// The end of the file. If the channel closes without it, the thread has stopped early.
    End,
}

/// Runs the command.
pub(crate) async fn run(command: Command, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    command.options().report.as_deref().map_or(Ok(()), admin::check_no_store)?;
    let log = SharedLog::new(ImportLog::open(command.options().report.as_deref())?);
    let options = command.options().clone();
    let bar = progress::bar();
    let reading = read_in_background(command, bar.clone())?;
    let transferred = transfer(reading, &options, cable, &log, &bar).await;
    bar.finish_and_clear();
    let mut log = log.lock();
    output.text(&log.report.to_string())?;
    if options.dry_run {
        note("dry run: nothing was written")?;
    }
    log.close();
    // The cause that ended the input early explains more than its consequences.
    let interrupted = match log.failure.take() {
        Some(failure) => return Err(failure),
        None => transferred.inspect_err(|_| drop(note(RETRY_HINT)))?,
    };
    let problems = log.report.problems();
    let incomplete = if interrupted {
        format!("interrupted; {RETRY_HINT}")
    } else if !log.report.totals_match() {
        format!("some records have no result; {RETRY_HINT}")
    } else if problems > 0 {
        format!("{problems} items failed or were refused")
    } else {
        return Ok(());
    };
    Err(Error::Incomplete(incomplete))
}

/// Sends the records and accounts for the results. Returns whether the user interrupted it: the first interrupt ends
/// the input and waits for the outstanding acknowledgements, the second one does not wait.
async fn transfer(
    reading: Reading,
    options: &Options,
    cable: &Cable,
    log: &SharedLog,
    bar: &ProgressBar,
) -> Result<bool, Error> {
    let (stop, stopped) = oneshot::channel();
    let mut stop = Some(stop);
    let Reading { inputs, source } = reading;
    // If the file cannot be opened, it has no source, and its only input is the error.
    let source = match &options.source {
        Some(source) => source.clone(),
        None => source.await.unwrap_or_default(),
    };
    let mut acks = cable.import(records(inputs, log.clone()).take_until(stopped)).source(source);
    if options.overwrite {
        acks = acks.overwrite();
    }
    if options.dry_run {
        acks = acks.dry_run();
    }
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(|source| Error::io("listen for signals", source))?;
    loop {
        tokio::select! {
            ack = acks.next() => {
                let Some(ack) = ack.transpose()? else { break };
                bar.set_message(log.lock().acknowledge(&ack));
            }
            _ = interrupts.recv() => match stop.take() {
                // If the receiver no longer exists, the input has ended already.
                Some(stop) => drop(stop.send(())),
                None => break,
            }
        }
    }
    Ok(stop.is_none())
}

/// Returns the records of the inputs. Each input is added to the log when it is received.
fn records(
    inputs: mpsc::Receiver<Result<Input, Error>>,
    log: SharedLog,
) -> impl Stream<Item = RawRecord> + Send + 'static {
    let batches = stream::unfold((inputs, log), |(mut inputs, log)| async move {
        let input = inputs.recv().await.unwrap_or_else(|| Err(Error::Incomplete(READER_PANICKED.to_owned())));
        let records = log.lock().add(input)?;
        Some((stream::iter(records), (inputs, log)))
    });
    batches.flatten()
}

/// A shared log: inputs are added while the client requests records, results as they arrive.
#[derive(Clone)]
struct SharedLog(Arc<Mutex<ImportLog>>);

impl SharedLog {
    fn new(log: ImportLog) -> Self {
        SharedLog(Arc::new(Mutex::new(log)))
    }

    fn lock(&self) -> MutexGuard<'_, ImportLog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outcome of every input so far, and the file of the report.
struct ImportLog {
    report: Report,
    lines: Option<(PathBuf, BufWriter<File>)>,
    /// The error that ended the input early, or that a write of the report returned.
    failure: Option<Error>,
}

impl ImportLog {
    fn open(lines: Option<&Path>) -> Result<Self, Error> {
        let create = |path: &Path| {
            let file = File::create(path)
                .map_err(|source| Error::io(format!("write {}", path.display()), source))?;
            Ok::<_, Error>((path.to_owned(), BufWriter::new(file)))
        };
        Ok(ImportLog { report: Report::default(), lines: lines.map(create).transpose()?, failure: None })
    }

    /// Adds an input to the log. Returns the records to send, or `None` at the end of the file.
    fn add(&mut self, input: Result<Input, Error>) -> Option<Vec<RawRecord>> {
        match input {
            Ok(Input::Item(item)) => {
                let line = self.report.add(&item);
                self.write_line(&line);
                let ItemOutcome::Converted(converted) = item.outcome else { return Some(Vec::new()) };
                let mentions = converted.mentions.into_iter();
                let mentions = mentions.map(|record| v1::Record { mentioned: true, ..record });
                Some(mentions.chain(converted.records).map(|record| RawRecord::from(&record)).collect())
            }
            Ok(Input::Record(bytes)) => {
                self.report.add_record();
                Some(vec![RawRecord::from_bytes(bytes)])
            }
            Ok(Input::Invalid(location, problem)) => {
                self.report.add_record();
                let line = self.report.refused(&location, "INVALID_ARGUMENT", "", &problem);
                self.write_line(&line);
                Some(Vec::new())
            }
            Ok(Input::End) => None,
            Err(error) => {
                self.failure = Some(error);
                None
            }
        }
    }

    /// Adds results to the log. Returns a text with their number so far.
    fn acknowledge(&mut self, ack: &ImportAck) -> String {
        for (index, result) in (ack.first..).zip(&ack.results) {
            self.add_result(index, result);
        }
        format!("{} records acknowledged", ack.first + ack.results.len() as u64)
    }

    fn add_result(&mut self, index: u64, result: &v1::ImportResult) {
        let unnamed = format!("record {}", index + 1);
        let label = if result.name.is_empty() { &unnamed } else { &result.name };
        if !result.omitted_path.is_empty() {
            let line = self.report.without_path(label, &result.omitted_path, &result.path_owner);
            self.write_line(&line);
        }
        match result.outcome() {
            v1::ImportOutcome::Kept => {
                let line = self.report.kept(label, result.keep_reason());
                self.write_line(&line);
            }
            v1::ImportOutcome::Written => self.report.written(label),
            v1::ImportOutcome::Unchanged => self.report.unchanged(label),
            _ => {
                let error = result.error.clone().unwrap_or_default();
                let reason = error.reason().as_str_name().trim_start_matches("ERROR_REASON_");
                let field = format!("{}: ", error.field);
                let has_field = error.field.is_empty() || error.message.starts_with(&field);
                let message = if has_field { error.message } else { field + &error.message };
                let line = self.report.refused(label, code_name(error.code), reason, &message);
                self.write_line(&line);
            }
        }
    }

    /// Writes a line of the report. If that fails, the import continues and reports the error at its end.
    fn write_line(&mut self, line: &str) {
        if let Some((path, file)) = &mut self.lines
            && let Err(source) = writeln!(file, "{line}")
        {
            let operation = format!("write {}", path.display());
            self.failure.get_or_insert(Error::io(operation, source));
        }
    }

    fn close(&mut self) {
        if let Some((path, file)) = &mut self.lines
            && let Err(source) = file.flush()
        {
            let operation = format!("write {}", path.display());
            self.failure.get_or_insert(Error::io(operation, source));
        }
    }
}

/// A file that a thread reads.
struct Reading {
    inputs: mpsc::Receiver<Result<Input, Error>>,
    /// The source that the file states. The sender is dropped without one if the file states none.
    source: oneshot::Receiver<String>,
}

/// Starts to read the file. The channel closes at the end of the file, or after the first error.
fn read_in_background(command: Command, bar: ProgressBar) -> Result<Reading, Error> {
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
    let failure = add_pages(&mut feed, &from, runtime, bar).err();
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

/// Adds all pages of a feed. The error states which one cannot be read, and why.
fn add_pages(feed: &mut feed::Feed, from: &str, runtime: &Handle, bar: &ProgressBar) -> Result<(), String> {
    let mut left = feed::MAX_BYTES;
    let end = Instant::now() + fetch::MAX_TOTAL_TIME;
    let mut page = first_page(from, runtime, left, end)?;
    loop {
        left = left.saturating_sub(page.bytes.len() as u64);
        let shown = page.address.as_ref().map_or_else(|| from.to_owned(), ToString::to_string);
        match feed.add(page).map_err(|error| format!("{shown}: {}", with_cause(&error)))? {
            feed::Next::End => return Ok(()),
            feed::Next::NotFollowed(next, reason) => {
                // Without it, the import is that of the pages so far.
                let _not_shown =
                    bar.suspend(|| note(&format!("the next page, {next}, is not imported: {reason}")));
                return Ok(());
            }
            feed::Next::Page(next) => {
                bar.set_message(format!("{} items, then {next}", feed.total()));
                page = fetched(runtime, next.clone(), left, end)?;
                let address = page.address.as_ref();
                if address.is_some_and(|address| address.host() != next.host()) {
                    return Err(format!("{next}: the next page redirects to another host"));
                }
            }
        }
    }
}

fn first_page(from: &str, runtime: &Handle, max_bytes: u64, end: Instant) -> Result<feed::Page, String> {
    if from.contains("://") {
        let url = from.parse().map_err(|error| format!("{from}: not an address: {error}"))?;
        return fetched(runtime, url, max_bytes, end);
    }
    let failed = |error: io::Error| format!("read {from}: {error}");
    let mut bytes = Vec::new();
    let mut reader: Box<dyn Read> = match from {
        "-" => Box::new(io::stdin()),
        file => Box::new(File::open(file).map_err(failed)?),
    };
    // One byte more than allowed, which the feed refuses.
    reader.by_ref().take(max_bytes + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(feed::Page { bytes, ..feed::Page::default() })
}

fn fetched(runtime: &Handle, url: feed::Url, max_bytes: u64, end: Instant) -> Result<feed::Page, String> {
    let fetch::Fetched { bytes, address, charset } = runtime.block_on(fetch::fetch(url, max_bytes, end))?;
    Ok(feed::Page { bytes, address: Some(address), charset })
}

fn read_jsonl(file: &Path, bar: &ProgressBar, sender: &Sender) -> Result<(), Stopped> {
    let reader = match open(file, bar) {
        Ok(reader) => reader,
        Err(error) => return send(sender, Err(error)),
    };
    for line in Lines::new(reader) {
        let input = match line {
            Ok(Line::Record(record)) => Ok(Input::Record(record.into())),
            Ok(Line::Invalid { number, problem }) => Ok(Input::Invalid(format!("line {number}"), problem)),
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
    match BinaryReader::new(reader) {
        Ok(records) => {
            records.into_iter().try_for_each(|record| send(sender, record.map(Input::Record).map_err(failed)))
        }
        Err(error) => send(sender, Err(failed(error))),
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

fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(file: &Path) -> Source {
        Source { file: file.to_owned(), options: Options::default() }
    }

    fn new_log() -> SharedLog {
        SharedLog::new(ImportLog::open(None).unwrap())
    }

    /// Returns the number of records that would be sent of a file, and the log.
    async fn read(command: Command) -> (usize, SharedLog) {
        let log = new_log();
        let Reading { inputs, .. } = read_in_background(command, ProgressBar::hidden()).unwrap();
        let sent = records(inputs, log.clone()).count().await;
        (sent, log)
    }

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn result(name: &str, outcome: v1::ImportOutcome) -> v1::ImportResult {
        let mut result = v1::ImportResult::default();
        result.name = name.into();
        result.outcome = outcome.into();
        result
    }

    #[tokio::test]
    async fn each_line_is_sent_or_reported() {
        let tag = r#"{"tag":{"name":"tags/a","displayName":"A"}}"#;
        let lines = format!("{tag}\n\n  {tag}\r\n{{\"tag\":{{\"nam\":1}}}}\nnonsense\n{tag}");
        let file = file(lines.as_bytes());
        let (sent, log) = read(Command::Jsonl(source(file.path()))).await;
        assert_eq!(sent, 3);
        let mut log = log.lock();
        assert!(log.failure.is_none());
        assert_eq!(log.report.problems(), 2);
        assert!(log.report.to_string().contains("line 4: INVALID_ARGUMENT"), "{}", log.report);
        assert!(!log.report.totals_match());
        for _ in 0..3 {
            log.add_result(0, &result("tags/a", v1::ImportOutcome::Unchanged));
        }
        assert!(log.report.totals_match());
    }

    #[tokio::test]
    async fn the_source_is_known_before_the_inputs_are_received() {
        let line = "{\"tag\":{\"name\":\"tags/a\"}}\n";
        let file = file(line.repeat(3 * MAX_READ_AHEAD).as_bytes());
        let Reading { mut inputs, source } =
            read_in_background(Command::Jsonl(self::source(file.path())), ProgressBar::hidden()).unwrap();
        let source = tokio::time::timeout(std::time::Duration::from_secs(30), source).await.unwrap();
        assert!(source.is_err(), "a file of records has no source of its own");
        let mut count = 0;
        while let Some(Ok(Input::Record(_))) = inputs.recv().await {
            count += 1;
        }
        assert_eq!(count, 3 * MAX_READ_AHEAD);
    }

    #[tokio::test]
    async fn the_line_after_an_overlong_one_is_read() {
        let mut lines = vec![b'x'; cable_import::jsonl::MAX_LINE_BYTES as usize + 10];
        lines.extend_from_slice(b"\n{\"tag\":{\"name\":\"tags/a\"}}\n");
        let file = file(&lines);
        let (sent, log) = read(Command::Jsonl(source(file.path()))).await;
        assert_eq!((sent, log.lock().report.problems()), (1, 1));
    }

    #[tokio::test]
    async fn a_truncated_file_is_an_error() {
        let mut writer = binary::BinaryWriter::new(Vec::new()).unwrap();
        writer.write(b"0123456789").unwrap();
        let complete = writer.finish().unwrap();
        for (content, sent, problem) in [
            (&complete[..], 1, None),
            (&complete[..complete.len() - 1], 0, Some("truncated")),
            (&b"something else"[..], 0, Some("not a file of Cable records")),
        ] {
            let file = file(content);
            let (records, log) = read(Command::Binary(source(file.path()))).await;
            assert_eq!(records, sent);
            let failure = log.lock().failure.take().map(|error| error.to_string());
            assert_eq!(failure.is_some(), problem.is_some(), "{failure:?}");
            assert!(failure.unwrap_or_default().contains(problem.unwrap_or_default()));
        }
    }

    /// A thread that panics closes its channel, as one that has finished does.
    #[tokio::test]
    async fn a_reader_that_panics_is_an_error() {
        let log = new_log();
        let (sender, inputs) = mpsc::channel(1);
        drop(sender);
        assert_eq!(records(inputs, log.clone()).count().await, 0);
        assert!(matches!(log.lock().failure, Some(Error::Incomplete(_))));
    }

    #[test]
    fn a_refused_record_is_reported_with_code_reason_and_field() {
        let report = tempfile::NamedTempFile::new().unwrap();
        let mut log = ImportLog::open(Some(report.path())).unwrap();
        log.report.add_record();
        let mut error = v1::ItemError::default();
        error.code = 3;
        error.reason = v1::ErrorReason::FieldInvalid.into();
        error.message = "required".into();
        error.field = "headline".into();
        let mut refused = result("", v1::ImportOutcome::Refused);
        refused.error = Some(error);
        log.add_result(6, &refused);
        log.close();
        let line = std::fs::read_to_string(report.path()).unwrap();
        for part in ["record 7", "INVALID_ARGUMENT", "FIELD_INVALID", "headline: required"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(log.report.totals_match());
    }
}
