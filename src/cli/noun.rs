//! `cable author`, `section`, `tag` and `collection`, and the put and remove that articles share with them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cable_client::{Cable, ErrorKind, RemovalReason, Timestamp, WriteOutcome, v1};
use clap::{Args, ValueEnum};
use futures_util::{Stream, StreamExt as _};
use prost::Message;

use super::{
    Error,
    output::{ARTICLE, AUTHOR, COLLECTION, Entity, Format, Noun, Output, SECTION, TAG},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print one.
    Get {
        /// Id of the entity.
        id: String,
    },
    /// Print all, ordered by id.
    Ls,
    /// Create one or replace it completely.
    Put(Put),
    /// Remove one, leaving a tombstone with the reason.
    Rm(Remove),
}

#[derive(Debug, Args)]
pub(crate) struct Put {
    /// File with canonical JSON, as `get -o json` prints it, or with a line of an export; `-` is standard input.
    file: PathBuf,
    #[command(flatten)]
    precondition: Precondition,
    /// Request id that makes a repetition of this command within 24 hours harmless.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

/// The preconditions of a write.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct Precondition {
    /// Write only if the name does not exist yet.
    #[arg(long)]
    if_absent: bool,
    /// Etag that must still be current.
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Id of the entity.
    id: String,
    /// Reason of the removal.
    #[arg(long, value_enum, default_value_t, conflicts_with = "moved_to")]
    reason: Reason,
    /// Id under which the entity continues; the reason is then MOVED.
    #[arg(long, value_name = "ID")]
    moved_to: Option<String>,
    /// Etag that must still be current.
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
    /// Request id that makes a repetition of this command within 24 hours harmless.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Reason {
    /// No longer wanted.
    #[default]
    Deleted,
    /// Withdrawn by the publisher; it may return.
    Withdrawn,
    /// Must not exist anywhere; the content is erased.
    Killed,
}

/// Runs `cable author`.
pub(crate) async fn author(command: Command, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Get { id } => print_one(&AUTHOR, &cable.author(id).await?.value, output),
        Command::Ls => print_all(&AUTHOR, cable.authors().page_size(MAX_PAGE_SIZE).items(), output).await,
        Command::Put(args) => put::<v1::Author>(&AUTHOR, args, cable, output).await,
        Command::Rm(args) => remove(&AUTHOR, args, cable, output).await,
    }
}

/// Runs `cable section`.
pub(crate) async fn section(command: Command, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Get { id } => print_one(&SECTION, &cable.section(id).await?.value, output),
        Command::Ls => print_all(&SECTION, cable.sections().page_size(MAX_PAGE_SIZE).items(), output).await,
        Command::Put(args) => put::<v1::Section>(&SECTION, args, cable, output).await,
        Command::Rm(args) => remove(&SECTION, args, cable, output).await,
    }
}

/// Runs `cable tag`.
pub(crate) async fn tag(command: Command, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Get { id } => print_one(&TAG, &cable.tag(id).await?.value, output),
        Command::Ls => print_all(&TAG, cable.tags().page_size(MAX_PAGE_SIZE).items(), output).await,
        Command::Put(args) => put::<v1::Tag>(&TAG, args, cable, output).await,
        Command::Rm(args) => remove(&TAG, args, cable, output).await,
    }
}

/// Runs `cable collection`.
pub(crate) async fn collection(command: Command, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Get { id } => print_collection(&id, cable, output).await,
        Command::Ls => {
            print_all(&COLLECTION, cable.collections().page_size(MAX_PAGE_SIZE).items(), output).await
        }
        Command::Put(args) => put::<v1::Collection>(&COLLECTION, args, cable, output).await,
        Command::Rm(args) => remove(&COLLECTION, args, cable, output).await,
    }
}

/// The server's limit on a page.
const MAX_PAGE_SIZE: u32 = 1_000;

fn print_one(noun: &Noun, message: &impl Message, output: &mut Output) -> Result<(), Error> {
    output.one(&Entity::new(noun, message))
}

async fn print_all<M: Message>(
    noun: &Noun,
    mut items: impl Stream<Item = cable_client::Result<M>> + Unpin,
    output: &mut Output,
) -> Result<(), Error> {
    let mut listing = output.list(noun);
    let mut incomplete = Ok(());
    while let Some(item) = items.next().await {
        match item {
            Ok(item) => listing.push(&Entity::new(noun, &item))?,
            // This is the last item; those before it are valid.
            Err(error) if error.kind() == ErrorKind::DataLoss => incomplete = Err(error),
            Err(error) => return Err(error.into()),
        }
    }
    listing.finish()?;
    Ok(incomplete?)
}

/// Prints a collection. A table for people also has its articles, in its order.
async fn print_collection(id: &str, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    let collection = cable.collection(id).await?.into_inner();
    print_one(&COLLECTION, &collection.collection, output)?;
    if output.format() != Format::Table {
        return Ok(());
    }
    output.text("")?;
    let mut listing = output.list(&ARTICLE);
    for article in &collection.articles {
        listing.push(&Entity::new(&ARTICLE, article))?;
    }
    listing.finish()
}

/// Puts the entity of a file.
async fn put<M>(noun: &Noun, args: Put, cable: &Cable, output: &mut Output) -> Result<(), Error>
where
    M: Message + Default + cable_client::Entity,
{
    print_result(&put_call::<M>(noun, args, cable)?.await?, "put", output)
}

/// Returns the call that puts the entity of a file.
pub(crate) fn put_call<M>(noun: &Noun, args: Put, cable: &Cable) -> Result<cable_client::Put<M>, Error>
where
    M: Message + Default + cable_client::Entity,
{
    let mut call = cable.put(noun.parse::<M>(&read_text(&args.file)?)?);
    if args.precondition.if_absent {
        call = call.if_absent();
    }
    if let Some(etag) = args.precondition.etag {
        call = call.if_etag(etag);
    }
    if let Some(id) = args.request_id {
        call = call.request_id(id);
    }
    Ok(call)
}

/// Removes an entity of the noun.
pub(crate) async fn remove(
    noun: &Noun,
    args: Remove,
    cable: &Cable,
    output: &mut Output,
) -> Result<(), Error> {
    let reason = match (&args.moved_to, args.reason) {
        (Some(_), _) => RemovalReason::Moved,
        (None, Reason::Deleted) => RemovalReason::Deleted,
        (None, Reason::Withdrawn) => RemovalReason::Withdrawn,
        (None, Reason::Killed) => RemovalReason::Killed,
    };
    let mut call = cable.remove(noun.full_name(&args.id), reason);
    if let Some(target) = args.moved_to {
        call = call.moved_to(target);
    }
    if let Some(etag) = args.etag {
        call = call.if_etag(etag);
    }
    if let Some(id) = args.request_id {
        call = call.request_id(id);
    }
    print_result(&call.await?, "removed", output)
}

/// Prints the result of a write: a sentence for people, a WriteResult for programs.
pub(crate) fn print_result(written: &WriteOutcome, done: &str, output: &mut Output) -> Result<(), Error> {
    if output.format() == Format::Table {
        let done = if written.changed { done } else { "unchanged" };
        let etag = if written.etag.is_empty() { String::new() } else { format!(", etag {}", written.etag) };
        let due = if written.pending { describe_due_time(written.due_time) } else { String::new() };
        return output.text(&format!("{} {done}: revision {}{etag}{due}", written.name, written.revision));
    }
    let mut result = v1::WriteResult::default();
    result.name.clone_from(&written.name);
    result.etag.clone_from(&written.etag);
    result.revision = written.revision;
    result.changed = written.changed;
    result.pending = written.pending;
    result.due_time = written.due_time;
    output.one(&Entity::of("cable.v1.WriteResult", &result))
}

/// Describes when a pending version is due.
fn describe_due_time(time: Option<Timestamp>) -> String {
    match time.and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok()) {
        Some(time) => format!(", pending until {time}"),
        None => ", pending until another put".to_owned(),
    }
}

fn read_text(file: &Path) -> Result<String, Error> {
    let read = match file.to_str() {
        Some("-") => io::read_to_string(io::stdin()),
        _ => fs::read_to_string(file),
    };
    read.map_err(|source| Error::io(format!("read {}", file.display()), source))
}
