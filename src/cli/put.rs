//! The puts of all kinds: documents from files, their conditions, and the changes that they would make.

use std::path::PathBuf;

use cable_client::{Cable, ErrorReason, Put as PutCall, v1};
use clap::Args;

use super::{
    Error, UNAVAILABLE,
    changes::Comparison,
    document::{self, Document, FileFormat},
    note,
    noun::{Kind, print_result, write_result},
    nouns::RESULT,
    output::{Entity, Format, Output},
};

/// An etag that no version has: revisions start at 1. The server checks a put with it and then refuses it.
const ETAG_OF_NO_VERSION: &str = "00000000-0-00000000";

#[derive(Debug, Args)]
pub(crate) struct Put {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    condition: Condition,
    /// Request id that makes a repetition of this command within 24 hours harmless; for a single document.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Let the server check the documents and print which would change, without writing.
    #[arg(long, conflicts_with = "request_id")]
    dry_run: bool,
}

/// The condition of a put.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct Condition {
    /// Write only if the name does not exist yet.
    #[arg(long)]
    if_absent: bool,
    /// Etag that must still be current, instead of the one in the file; for a single document.
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
    /// Ignore the etag in the file: replace the current version unconditionally.
    #[arg(long)]
    ignore_etag: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, Args)]
struct Files {
    /// Files with canonical JSON, as `get -o json` and `export` print it: one document or several. `-` is standard
    /// input. The etag in a document must still be current.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Files {
    /// Reads all documents, before any call. If `format` is `None`, the extension of each file determines it.
    fn read<K: Kind>(&self, format: Option<FileFormat>) -> Result<Vec<Document<K>>, Error> {
        let mut documents = Vec::new();
        for file in &self.files {
            documents.extend(document::read(file, format)?);
        }
        Ok(documents)
    }
}

impl Condition {
    /// Returns the etag that must be current, and whether it is the one in the file.
    fn etag<K>(&self, document: &Document<K>) -> Option<(String, bool)> {
        match &self.etag {
            Some(etag) => Some((etag.clone(), false)),
            None if self.if_absent || self.ignore_etag || document.etag.is_empty() => None,
            None => Some((document.etag.clone(), true)),
        }
    }
}

/// Runs a put of the documents in files. `configure` adds the options of the kind to each call. If `format` is `None`,
/// the extension of each file determines it.
pub(crate) async fn run<K: Kind>(
    args: Put,
    format: Option<FileFormat>,
    configure: impl Fn(PutCall<K>, &Document<K>) -> PutCall<K>,
    cable: &Cable,
    output: &mut Output,
) -> Result<(), Error> {
    let documents = args.files.read::<K>(format)?;
    let total = documents.len();
    if total > 1 && (args.request_id.is_some() || args.condition.etag.is_some()) {
        return Err(Error::Usage("--request-id and --etag are for a single document".to_owned()));
    }
    let (mut results, mut failures) = (Vec::new(), Vec::new());
    for document in documents {
        match put(document, &args, &configure, cable).await {
            // JSON is one value: an array, if there is more than one result.
            Ok(done) if total > 1 && output.format() == Format::Json => results.push(done.result),
            Ok(done) => done.print(output)?,
            Err(error) if total == 1 => return Err(error),
            Err(error) => {
                note(&error.describe())?;
                failures.push(error.exit_code());
            }
        }
        if failures.last() == Some(&UNAVAILABLE) {
            break;
        }
    }
    if total > 1 && output.format() == Format::Json {
        print_array(&results, output)?;
    }
    match failures.first() {
        None => Ok(()),
        Some(exit_code) => Err(Error::Partial {
            message: format!("{} of {total} documents failed or were refused", failures.len()),
            exit_code: *exit_code,
        }),
    }
}

/// The result of a put, or of its check.
struct Done {
    result: v1::WriteResult,
    /// The changes that a put would make. `None` after a put.
    comparison: Option<Comparison>,
}

impl Done {
    fn print(&self, output: &mut Output) -> Result<(), Error> {
        match &self.comparison {
            Some(comparison) if output.format() == Format::Table => {
                output.text(&format!("{} {}", self.result.name, comparison.describe()))
            }
            _ => print_result(&self.result, "put", output),
        }
    }
}

/// Puts a document. With `--dry-run`, the server only checks it.
async fn put<K: Kind>(
    document: Document<K>,
    args: &Put,
    configure: impl Fn(PutCall<K>, &Document<K>) -> PutCall<K>,
    cable: &Cable,
) -> Result<Done, Error> {
    let etag = args.condition.etag(&document);
    let mut call = configure(cable.put(document.entity.clone()), &document);
    if args.condition.if_absent {
        call = call.if_absent();
    }
    if let Some((etag, _)) = &etag {
        call = call.if_etag(etag);
    }
    if args.dry_run {
        return check(document, call, &args.condition, cable).await;
    }
    if let Some(id) = &args.request_id {
        call = call.request_id(id);
    }
    let written = call.await.map_err(|error| conflict(error, etag.is_some_and(|(_, of_file)| of_file)))?;
    Ok(Done { result: write_result(&written), comparison: None })
}

/// Returns the error of a put, with a remedy if the etag of the file is no longer current.
fn conflict(error: cable_client::Error, is_etag_of_file: bool) -> Error {
    match error.reason() {
        Some(ErrorReason::EtagMismatch) if is_etag_of_file => Error::FileEtag(error),
        _ => Error::Call(error),
    }
}

/// Lets the server check a put, and compares the document with the version that it would replace.
async fn check<K: Kind>(
    document: Document<K>,
    call: PutCall<K>,
    condition: &Condition,
    cable: &Cable,
) -> Result<Done, Error> {
    match call.if_etag(ETAG_OF_NO_VERSION).await {
        Err(error) if error.reason() == Some(ErrorReason::EtagMismatch) => {}
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(Error::Incomplete("the server ignored the condition of the check".to_owned())),
    }
    let comparison = Comparison::new(&document, cable).await?;
    let current = comparison.etag();
    if condition.if_absent && !current.is_empty() {
        return Err(Error::Conflict(format!("{}: already exists: current etag is {current}", document.name)));
    }
    if let Some((etag, _)) = condition.etag(&document)
        && etag != current
    {
        return Err(Error::Conflict(format!("{}: etag mismatch: current etag is {current}", document.name)));
    }
    let result = v1::WriteResult {
        name: document.name,
        changed: comparison.has_changes(),
        etag: current.to_owned(),
        ..v1::WriteResult::default()
    };
    Ok(Done { result, comparison: Some(comparison) })
}

/// Prints results as one JSON value.
fn print_array(results: &[v1::WriteResult], output: &mut Output) -> Result<(), Error> {
    let mut listing = output.list(&RESULT);
    for result in results {
        listing.push(&Entity::new(&RESULT, result))?;
    }
    listing.finish().map(drop)
}

/// Prints the changes that puts of the documents in files would make.
pub(crate) async fn diff<K: Kind>(
    args: Diff,
    format: Option<FileFormat>,
    cable: &Cable,
    output: &mut Output,
) -> Result<(), Error> {
    if output.is_explicit() {
        return Err(Error::Usage("--output: not supported by this command, which prints text".to_owned()));
    }
    for document in args.files.read::<K>(format)? {
        let diff = Comparison::new(&document, cable).await?.diff();
        if !diff.is_empty() {
            output.text(&diff)?;
        }
    }
    Ok(())
}
