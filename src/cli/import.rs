//! `cable import`: converts the items of a file to records, sends them to the service in chunks, and accounts for each
//! one.
//!
//! A thread of its own reads the file, a bounded number of pieces ahead of the network.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use cable_client::{Cable, ImportAck, RawRecord, v1};
use cable_import::{
    Fate, Item,
    binary::{self, BinaryReader},
    jsonl::RecordJson,
    report::Report,
    wxr,
};
use futures_util::{Stream, StreamExt as _, stream};
use indicatif::ProgressBar;
use prost::Message as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

use super::{Error, note, output::Output, progress};
use crate::telemetry::code_name;

/// Maximum pieces read ahead of the network. A piece is at most some MiB; most are some KiB.
const AHEAD: usize = 64;

/// Maximum length of a line, in bytes. A longer one is not a record: the largest record, an article of 1 MiB, is a
/// fraction of it as JSON.
const MAX_LINE: u64 = 16 << 20;

const AGAIN: &str = "run the same command again: what is there already stays as it is";

/// The message for a reading thread that has panicked; the panic has been printed already.
const BROKEN_OFF: &str =
    "reading the file was broken off by a fault of this program: what follows in it is not imported";

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Import a WordPress export (WXR 1.0 to 1.2).
    Wxr(Source),
    /// Import JSON lines, one record each, as `cable export` writes them.
    Jsonl(Source),
    /// Import records as `cable export --format binary` writes them; fields unknown to this release survive.
    Binary(Source),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Source {
    /// File to import; `-` is standard input (not for WXR, which is read twice).
    file: PathBuf,
    /// File for the report of all items that were not imported unchanged, with the reason: one JSON object per line.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// A piece of the file, as the reading thread sends it.
enum Piece {
    /// An item of another system's file.
    Item(Item),
    /// A record of Cable.
    Record(Bytes),
    /// An invalid record: its location in the file, and the problem.
    Broken(String, String),
    /// The end of the file. If the channel closes without it, the thread has stopped early.
    End,
}

/// Runs the command.
pub(crate) async fn run(command: Command, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    let (Command::Wxr(source) | Command::Jsonl(source) | Command::Binary(source)) = &command;
    source.report.as_deref().map_or(Ok(()), super::replace::check_no_store)?;
    let account = Shared::new(Account::open(source.report.as_deref())?);
    let bar = progress::bar();
    let pieces = read_in_background(command, bar.clone())?;
    let came = transfer(pieces, cable, &account, &bar).await;
    bar.finish_and_clear();
    let mut account = account.lock();
    output.text(&account.report.to_string())?;
    account.close();
    // The cause that ended the input early explains more than its consequences.
    let interrupted = match account.failure.take() {
        Some(failure) => return Err(failure),
        None => came.inspect_err(|_| drop(note(AGAIN)))?,
    };
    let problems = account.report.problems();
    let incomplete = if interrupted {
        format!("interrupted; {AGAIN}")
    } else if !account.report.totals_match() {
        format!("not every record was answered; {AGAIN}")
    } else if problems > 0 {
        format!("{problems} could not be taken")
    } else {
        return Ok(());
    };
    Err(Error::Incomplete(incomplete))
}

/// Sends the records and accounts for the results. Returns whether the user interrupted it: the first interrupt ends
/// the input and waits for the outstanding acknowledgements, the second one does not wait.
async fn transfer(
    pieces: mpsc::Receiver<Result<Piece, Error>>,
    cable: &Cable,
    account: &Shared,
    bar: &ProgressBar,
) -> Result<bool, Error> {
    let (stop, stopped) = oneshot::channel();
    let mut stop = Some(stop);
    let mut acks = cable.import(records(pieces, account.clone()).take_until(stopped));
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(|source| Error::io("listen for signals", source))?;
    loop {
        tokio::select! {
            ack = acks.next() => {
                let Some(ack) = ack.transpose()? else { break };
                bar.set_message(account.lock().acknowledge(&ack));
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

/// Returns the records of the pieces. Each piece is added to the account when it is received.
fn records(
    pieces: mpsc::Receiver<Result<Piece, Error>>,
    account: Shared,
) -> impl Stream<Item = RawRecord> + Send + 'static {
    let batches = stream::unfold((pieces, account), |(mut pieces, account)| async move {
        let piece = pieces.recv().await.unwrap_or_else(|| Err(Error::Incomplete(BROKEN_OFF.to_owned())));
        let taken = account.lock().take(piece)?;
        Some((stream::iter(taken), (pieces, account)))
    });
    batches.flatten()
}

/// A shared account: pieces are added while the client requests records, results as they arrive.
#[derive(Clone)]
struct Shared(Arc<Mutex<Account>>);

impl Shared {
    fn new(account: Account) -> Self {
        Shared(Arc::new(Mutex::new(account)))
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outcome of every piece so far, and the file of the report.
struct Account {
    report: Report,
    lines: Option<(PathBuf, BufWriter<File>)>,
    /// The error that ended the input early, or that a write of the report returned.
    failure: Option<Error>,
}

impl Account {
    fn open(lines: Option<&Path>) -> Result<Self, Error> {
        let create = |path: &Path| {
            let file = File::create(path)
                .map_err(|source| Error::io(format!("write {}", path.display()), source))?;
            Ok::<_, Error>((path.to_owned(), BufWriter::new(file)))
        };
        Ok(Account { report: Report::default(), lines: lines.map(create).transpose()?, failure: None })
    }

    /// Adds a piece to the account. Returns the records to send, or `None` if the input ends here.
    fn take(&mut self, piece: Result<Piece, Error>) -> Option<Vec<RawRecord>> {
        match piece {
            Ok(Piece::Item(item)) => {
                let line = self.report.add(&item);
                self.line(line);
                let Fate::Taken(taken) = item.fate else { return Some(Vec::new()) };
                let encoded = taken.records.iter().map(|record| record.encode_to_vec().into());
                Some(encoded.map(RawRecord::from_bytes).collect())
            }
            Ok(Piece::Record(bytes)) => {
                self.report.add_record();
                Some(vec![RawRecord::from_bytes(bytes)])
            }
            Ok(Piece::Broken(place, why)) => {
                self.report.add_record();
                let line = self.report.refused(&place, "INVALID_ARGUMENT", "", &why);
                self.line(Some(line));
                Some(Vec::new())
            }
            Ok(Piece::End) => None,
            Err(error) => {
                self.failure = Some(error);
                None
            }
        }
    }

    /// Adds results to the account. Returns a text with their number so far.
    fn acknowledge(&mut self, ack: &ImportAck) -> String {
        for (place, result) in (ack.first..).zip(&ack.results) {
            self.answer(place, result);
        }
        format!("{} records answered", ack.first + ack.results.len() as u64)
    }

    fn answer(&mut self, place: u64, result: &v1::ImportResult) {
        let unnamed = format!("record {}", place + 1);
        let label = if result.name.is_empty() { &unnamed } else { &result.name };
        match result.outcome() {
            v1::ImportOutcome::Written => self.report.written(label),
            v1::ImportOutcome::Unchanged => self.report.unchanged(label),
            _ => {
                let error = result.error.clone().unwrap_or_default();
                let reason = error.reason().as_str_name().trim_start_matches("ERROR_REASON_");
                let field = format!("{}: ", error.field);
                let told = error.field.is_empty() || error.message.starts_with(&field);
                let message = if told { error.message } else { field + &error.message };
                let line = self.report.refused(label, code_name(error.code), reason, &message);
                self.line(Some(line));
            }
        }
    }

    /// Writes a line of the report. If that fails, the import continues and reports the error at its end.
    fn line(&mut self, line: Option<String>) {
        if let (Some(line), Some((path, file))) = (line, &mut self.lines)
            && let Err(source) = writeln!(file, "{line}")
        {
            let what = format!("write {}", path.display());
            self.failure.get_or_insert(Error::io(what, source));
        }
    }

    fn close(&mut self) {
        if let Some((path, file)) = &mut self.lines
            && let Err(source) = file.flush()
        {
            let what = format!("write {}", path.display());
            self.failure.get_or_insert(Error::io(what, source));
        }
    }
}

/// Starts to read the file. The channel closes at the end of the file, or after the first error.
fn read_in_background(
    command: Command,
    bar: ProgressBar,
) -> Result<mpsc::Receiver<Result<Piece, Error>>, Error> {
    let (pieces, read) = mpsc::channel(AHEAD);
    let reading = move || {
        let read = match command {
            Command::Wxr(Source { file, .. }) => read_wxr(&file, &bar, &pieces),
            Command::Jsonl(Source { file, .. }) => read_jsonl(&file, &bar, &pieces),
            Command::Binary(Source { file, .. }) => read_binary(&file, &bar, &pieces),
        };
        // If the receiver no longer exists, the import has stopped.
        let _stopped = read.and_then(|()| give(&pieces, Ok(Piece::End)));
    };
    std::thread::Builder::new()
        .name("cable-import".into())
        .spawn(reading)
        .map_err(|source| Error::io("start a thread", source))?;
    Ok(read)
}

type Pieces = mpsc::Sender<Result<Piece, Error>>;

/// An error: the receiver of the pieces no longer exists.
struct Stopped;

fn give(pieces: &Pieces, piece: Result<Piece, Error>) -> Result<(), Stopped> {
    pieces.blocking_send(piece).map_err(|_| Stopped)
}

fn read_wxr(file: &Path, bar: &ProgressBar, pieces: &Pieces) -> Result<(), Stopped> {
    let failed = |error: wxr::Error| not_readable(file, error);
    let items = match wxr::open(file, jiff::Timestamp::now()) {
        Ok(items) => items,
        Err(error) => return give(pieces, Err(failed(error))),
    };
    progress::of_items(bar, items.total());
    for item in items {
        give(pieces, item.map(Piece::Item).map_err(failed))?;
        bar.inc(1);
    }
    Ok(())
}

fn read_jsonl(file: &Path, bar: &ProgressBar, pieces: &Pieces) -> Result<(), Stopped> {
    let mut reader = match open(file, bar) {
        Ok(reader) => reader,
        Err(error) => return give(pieces, Err(error)),
    };
    let json = RecordJson::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) if line.trim_ascii().is_empty() => {}
            Ok(_) if line.len() as u64 == MAX_LINE && !line.ends_with(b"\n") => {
                let why = format!("longer than {} MiB", MAX_LINE >> 20);
                give(pieces, Ok(Piece::Broken(format!("line {number}"), why)))?;
                if let Err(source) = reader.skip_until(b'\n') {
                    return give(pieces, Err(Error::io(format!("read {}", file.display()), source)));
                }
            }
            Ok(_) => give(pieces, Ok(parse_line(&json, number, &line)))?,
            Err(source) => return give(pieces, Err(Error::io(format!("read {}", file.display()), source))),
        }
    }
    Ok(())
}

fn parse_line(json: &RecordJson, number: u64, line: &[u8]) -> Piece {
    let parsed = match std::str::from_utf8(line) {
        Ok(line) => json.from_line(line.trim()).map_err(|error| error.to_string()),
        Err(error) => Err(format!("not UTF-8: {error}")),
    };
    match parsed {
        Ok(record) => Piece::Record(record.into()),
        Err(why) => Piece::Broken(format!("line {number}"), why),
    }
}

fn read_binary(file: &Path, bar: &ProgressBar, pieces: &Pieces) -> Result<(), Stopped> {
    let failed = |error: binary::Error| not_readable(file, error);
    let reader = match open(file, bar) {
        Ok(reader) => reader,
        Err(error) => return give(pieces, Err(error)),
    };
    match BinaryReader::new(reader) {
        Ok(records) => {
            records.into_iter().try_for_each(|record| give(pieces, record.map(Piece::Record).map_err(failed)))
        }
        Err(error) => give(pieces, Err(failed(error))),
    }
}

fn open(file: &Path, bar: &ProgressBar) -> Result<Box<dyn BufRead>, Error> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(bar.wrap_read(io::stdin()))));
    }
    let failed = |source| Error::io(format!("read {}", file.display()), source);
    let opened = File::open(file).map_err(failed)?;
    progress::of_bytes(bar, opened.metadata().map_err(failed)?.len());
    Ok(Box::new(BufReader::with_capacity(1 << 18, bar.wrap_read(opened))))
}

/// Returns the error of a file that cannot be read any further.
fn not_readable(file: &Path, error: impl std::error::Error) -> Error {
    let mut text = format!("{}: {error}", file.display());
    if let Some(cause) = error.source() {
        text += &format!(": {cause}");
    }
    Error::Incomplete(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(file: &Path) -> Source {
        Source { file: file.to_owned(), report: None }
    }

    fn account() -> Shared {
        Shared::new(Account::open(None).unwrap())
    }

    /// Returns the number of records that would be sent of a file, and the account.
    async fn read(command: Command) -> (usize, Shared) {
        let account = account();
        let pieces = read_in_background(command, ProgressBar::hidden()).unwrap();
        let sent = records(pieces, account.clone()).count().await;
        (sent, account)
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
    async fn each_line_is_a_record_or_accounted_for() {
        let tag = r#"{"tag":{"name":"tags/a","displayName":"A"}}"#;
        let lines = format!("{tag}\n\n  {tag}\r\n{{\"tag\":{{\"nam\":1}}}}\nnonsense\n{tag}");
        let file = file(lines.as_bytes());
        let (sent, account) = read(Command::Jsonl(source(file.path()))).await;
        assert_eq!(sent, 3);
        let mut account = account.lock();
        assert!(account.failure.is_none());
        assert_eq!(account.report.problems(), 2);
        assert!(account.report.to_string().contains("line 4: INVALID_ARGUMENT"), "{}", account.report);
        assert!(!account.report.totals_match());
        for _ in 0..3 {
            account.answer(0, &result("tags/a", v1::ImportOutcome::Unchanged));
        }
        assert!(account.report.totals_match());
    }

    #[tokio::test]
    async fn a_line_without_end_does_not_hide_the_next_one() {
        let mut lines = vec![b'x'; MAX_LINE as usize + 10];
        lines.extend_from_slice(b"\n{\"tag\":{\"name\":\"tags/a\"}}\n");
        let file = file(&lines);
        let (sent, account) = read(Command::Jsonl(source(file.path()))).await;
        assert_eq!((sent, account.lock().report.problems()), (1, 1));
    }

    #[tokio::test]
    async fn a_file_that_ends_early_is_an_error() {
        let mut writer = binary::BinaryWriter::new(Vec::new()).unwrap();
        writer.write(b"0123456789").unwrap();
        let whole = writer.finish().unwrap();
        for (content, sent, says) in [
            (&whole[..], 1, None),
            (&whole[..whole.len() - 1], 0, Some("cut off")),
            (&b"something else"[..], 0, Some("not a file of Cable records")),
        ] {
            let file = file(content);
            let (records, account) = read(Command::Binary(source(file.path()))).await;
            assert_eq!(records, sent);
            let failure = account.lock().failure.take().map(|error| error.to_string());
            assert_eq!(failure.is_some(), says.is_some(), "{failure:?}");
            assert!(failure.unwrap_or_default().contains(says.unwrap_or_default()));
        }
    }

    /// A thread that panics closes its channel, as one that is done does.
    #[tokio::test]
    async fn reading_that_breaks_off_is_not_taken_for_the_end() {
        let account = account();
        let (pieces, read) = mpsc::channel(1);
        drop(pieces);
        assert_eq!(records(read, account.clone()).count().await, 0);
        assert!(matches!(account.lock().failure, Some(Error::Incomplete(_))));
    }

    #[test]
    fn a_refusal_is_told_with_code_reason_and_field() {
        let report = tempfile::NamedTempFile::new().unwrap();
        let mut account = Account::open(Some(report.path())).unwrap();
        account.report.add_record();
        let mut error = v1::ItemError::default();
        error.code = 3;
        error.reason = v1::ErrorReason::FieldInvalid.into();
        error.message = "required".into();
        error.field = "headline".into();
        let mut refused = result("", v1::ImportOutcome::Refused);
        refused.error = Some(error);
        account.answer(6, &refused);
        account.close();
        let line = std::fs::read_to_string(report.path()).unwrap();
        for part in ["record 7", "INVALID_ARGUMENT", "FIELD_INVALID", "headline: required"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(account.report.totals_match());
    }
}
