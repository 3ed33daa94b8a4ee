//! `cable import`: converts the items of a file to records, sends them to the service in chunks, and accounts for each
//! one.

use std::path::PathBuf;

use cable_client::{Cable, ErrorKind, RawRecord};
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
    let table = log.report.to_string();
    if !table.is_empty() {
        output.text(&table)?;
    }
    if options.dry_run {
        note("dry run: nothing was written")?;
    }
    log.close();
    let interrupted = match (log.failure.take(), transferred) {
        (None, Ok(interrupted)) => interrupted,
        (None, Err(error)) => {
            if is_temporary(&error) {
                note(RETRY_HINT)?;
            }
            return Err(error);
        }
        (Some(failure), Ok(_)) => return Err(failure),
        // The problem of the file comes last: as long as it remains, another run fails, too.
        (Some(failure), Err(error)) => {
            note(&error.describe())?;
            return Err(failure);
        }
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

/// Returns whether the same import can succeed later, without a change to the file or to the command.
fn is_temporary(error: &Error) -> bool {
    matches!(error, Error::Call(error) if is_temporary_kind(error.kind()))
}

fn is_temporary_kind(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unavailable
            | ErrorKind::DeadlineExceeded
            | ErrorKind::Cancelled
            | ErrorKind::ResourceExhausted
            | ErrorKind::Truncated
    )
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
    use prost::Message as _;

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
        writer.write(&tag("a")).unwrap();
        writer.write(&tag("b")).unwrap();
        let complete = writer.finish().unwrap();
        for (content, sent, problem) in [
            (&complete[..], 2, None),
            (&complete[..complete.len() - 1], 1, Some("truncated")),
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

    /// Returns the encoded record of a tag.
    fn tag(id: &str) -> Vec<u8> {
        let tag = v1::Tag { name: format!("tags/{id}"), display_name: id.into(), ..Default::default() };
        v1::Record { record: Some(v1::record::Record::Tag(tag)), ..Default::default() }.encode_to_vec()
    }

    #[tokio::test]
    async fn a_damaged_record_does_not_cost_the_others() {
        let mut writer = binary::BinaryWriter::new(Vec::new()).unwrap();
        // The later field is unknown to this release.
        let later = [&tag("d")[..], &[0xa2, 0x06, 1, b'x']].concat();
        for record in [tag("a"), tag("b"), tag("c"), later.clone()] {
            writer.write(&record).unwrap();
        }
        let mut damaged = writer.finish().unwrap();
        let length = 1 + tag("a").len();
        // The key of the second record's field, and the length within the third one.
        damaged[9 + length + 1] = 0x27;
        damaged[9 + 2 * length + 2] = 0x7f;
        let file = file(&damaged);
        let log = new_log();
        let Reading { inputs, .. } =
            reading::start(Command::Binary(source(file.path())), ProgressBar::hidden()).unwrap();
        let sent: Vec<_> =
            records(inputs, log.clone()).map(|record| record.as_bytes().clone()).collect().await;
        assert_eq!(sent, [tag("a"), later]);
        let report = log.lock().report.to_string();
        let places =
            [format!("record 2 at byte {}: ", 9 + length), format!("record 3 at byte {}: ", 9 + 2 * length)];
        assert!(places.iter().all(|place| report.contains(place)), "{report}");
    }

    #[test]
    fn only_errors_that_pass_are_worth_a_repetition() {
        for (kind, expected) in [
            (ErrorKind::Unavailable, true),
            (ErrorKind::ResourceExhausted, true),
            (ErrorKind::InvalidArgument, false),
            (ErrorKind::PermissionDenied, false),
        ] {
            assert_eq!(is_temporary_kind(kind), expected, "{kind:?}");
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
