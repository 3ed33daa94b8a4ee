//! `cable import`: converts the items of a file to records, sends them to the service in chunks, and accounts for each
//! one.

use std::path::PathBuf;

use cable_client::{Cable, RawRecord};
use cable_import::{markdown, times};
use futures_util::{Stream, StreamExt as _, stream};
use indicatif::ProgressBar;
use jiff::tz::Offset;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

use super::{Error, note, output::Output, progress};

use cable::admin;

mod hidden;
mod outcomes;
mod pages;
mod reading;

use outcomes::{ImportLog, SharedLog};
use reading::{Input, Reading};

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

/// Runs the command.
pub(crate) async fn run(command: Command, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    command.options().report.as_deref().map_or(Ok(()), admin::check_no_store)?;
    let log = SharedLog::new(ImportLog::open(command.options().report.as_deref())?);
    let options = command.options().clone();
    let bar = progress::bar();
    let reading = reading::start(command, bar.clone())?;
    let transferred = transfer(reading, &options, cable, &log, &bar).await;
    let looked_up = if transferred.is_ok() { hidden::report(cable, &log).await } else { Ok(()) };
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
    looked_up?;
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

/// Returns an error with its cause, for a line of its own.
fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, path::Path};

    use cable_client::v1;
    use cable_import::binary;

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
        let Reading { inputs, .. } = reading::start(command, ProgressBar::hidden()).unwrap();
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
}
