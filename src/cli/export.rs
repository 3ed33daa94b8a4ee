//! `cable export`: writes all content of the service to a file that `cable import` accepts.
//!
//! The file gets its name only once it is complete.

use std::{
    io::{self, BufWriter, IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use cable_client::{Cable, ErrorKind, RawRecord, v1::ArticleView};
use futures_util::StreamExt as _;
use indicatif::ProgressBar;

use super::{Error, note, progress, replace::Replacement, terminal};
use cable_import::{binary::BinaryWriter, jsonl::RecordJson};

/// The largest page of the list of pending versions.
const MAX_PAGE_SIZE: u32 = 1_000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Canonical JSON, one record per line.
    #[default]
    Jsonl,
    /// Records as stored: fields unknown to this release survive.
    Binary,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Format of the file.
    #[arg(long = "as", value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,
    /// File to write; an existing file is replaced once the export is complete. If unset or `-`, standard output.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Include scheduled and embargoed versions. Protect the file: they must not become public before their time.
    #[arg(long)]
    pending: bool,
}

/// Runs the command.
pub(crate) async fn run(export: Export, cable: &Cable) -> Result<(), Error> {
    let omitted = if export.pending { 0 } else { count_pending(cable).await? };
    let is_shown =
        export.to.as_deref().is_none_or(|path| path == Path::new("-")) && io::stdout().is_terminal();
    // Progress between the records of one terminal would make both unreadable.
    let bar = if is_shown { ProgressBar::hidden() } else { progress::bar() };
    let summary = match export.to.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => to_file(path, &export, cable, &bar).await,
        None if export.format == Format::Binary && io::stdout().is_terminal() => {
            Err(Error::Usage("binary records are not for a terminal: add --to FILE".to_owned()))
        }
        None => write_to(BufWriter::new(terminal::stdout()), &export, cable, &bar, Error::stdout)
            .await
            .map(|(_, summary)| summary),
    };
    bar.finish_and_clear();
    note(&summary?)?;
    match omitted {
        0 => Ok(()),
        1 => note("1 pending version was left out: use --pending"),
        omitted => note(&format!("{omitted} pending versions were left out: use --pending")),
    }
}

/// Returns the number of pending versions that can be read.
async fn count_pending(cable: &Cable) -> Result<usize, Error> {
    let mut pending = cable.list_pending().view(ArticleView::Reference).page_size(MAX_PAGE_SIZE).items();
    let mut count = 0;
    while let Some(item) = pending.next().await {
        match item {
            Ok(_) => count += 1,
            Err(error) if error.kind() == ErrorKind::DataLoss => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(count)
}

async fn to_file(path: &Path, export: &Export, cable: &Cable, bar: &ProgressBar) -> Result<String, Error> {
    let failed = |source| Replacement::failed(path, source);
    let replacement = BufWriter::new(Replacement::create(path)?);
    let written = write_to(replacement, export, cable, bar, failed).await;
    let (written, summary) = written.map_err(|error| match error {
        Error::Call(error) if error.kind() == ErrorKind::DataLoss => Error::Incomplete(format!(
            "{}: not written: {error}; export to standard output for the records that can be read",
            path.display()
        )),
        other => other,
    })?;
    written.into_inner().map_err(|error| failed(error.into_error()))?.commit()?;
    Ok(summary)
}

/// Writes all records to `to`. Returns it with a summary for people.
async fn write_to<W: Write>(
    to: W,
    export: &Export,
    cable: &Cable,
    bar: &ProgressBar,
    failed: impl Fn(io::Error) -> Error,
) -> Result<(W, String), Error> {
    let mut sink = Sink::new(to, export.format).map_err(&failed)?;
    let call = cable.export();
    let mut records = if export.pending { call.include_pending() } else { call }.records();
    let (mut count, mut lossy) = (0_u64, 0_u64);
    let mut incomplete = Ok(());
    while let Some(record) = records.next().await {
        match record {
            Ok(record) => lossy += u64::from(sink.write(&record).map_err(&failed)?),
            // All readable records are written before the command fails.
            Err(error) if records.end().is_some() => {
                incomplete = Err(error);
                break;
            }
            Err(error) => return Err(error.into()),
        }
        count += 1;
        bar.set_position(count);
    }
    let mut summary = format!("{count} records");
    if let Some(end) = records.end() {
        let head = end.position.clone().unwrap_or_default();
        summary += &format!(" as of revision {} of log {}", head.revision, head.log_id);
    }
    if lossy > 0 {
        summary += &format!(
            "\n{lossy} of them have fields unknown to this release, omitted from JSON: use --as binary"
        );
    }
    let written = sink.finish().map_err(&failed)?;
    incomplete?;
    Ok((written, summary))
}

/// A writer of records in either format.
enum Sink<W: Write> {
    Jsonl(RecordJson, W),
    Binary(BinaryWriter<W>),
}

impl<W: Write> Sink<W> {
    fn new(to: W, format: Format) -> io::Result<Self> {
        match format {
            Format::Jsonl => Ok(Sink::Jsonl(RecordJson::new(), to)),
            Format::Binary => BinaryWriter::new(to).map(Sink::Binary),
        }
    }

    /// Writes a record. Returns whether it had fields that are lost in this format.
    fn write(&mut self, record: &RawRecord) -> io::Result<bool> {
        match self {
            Sink::Binary(writer) => writer.write(record.as_bytes()).map(|()| false),
            Sink::Jsonl(json, to) => {
                let (line, unknown) = json.to_line(record.as_bytes()).map_err(io::Error::other)?;
                writeln!(to, "{line}").map(|()| unknown)
            }
        }
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Sink::Binary(writer) => writer.finish(),
            Sink::Jsonl(_, mut to) => to.flush().map(|()| to),
        }
    }
}
