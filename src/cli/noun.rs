//! `cable author`, `section`, `tag` and `collection`, and the put and remove that articles share with them.

use cable_client::{
    Cable, ErrorKind, RemovalReason, Timestamp, WriteOutcome,
    v1::{self, BodyFormat},
};
use clap::{Args, ValueEnum};
use futures_util::{Stream, StreamExt as _, stream};
use prost::Message;

use super::{
    Error,
    document::FileFormat,
    note,
    nouns::{ARTICLE, AUTHOR, COLLECTION, Noun, SECTION, TAG},
    output::{Entity, Format, Output},
    put::{self, Diff, Put},
};

/// The server's limit on a page.
const MAX_PAGE_SIZE: u32 = 1_000;

/// Maximum number of concurrent calls for the ids of one command.
const MAX_CONCURRENT_GETS: usize = 8;

/// A kind of entity that can be read by its name and put.
pub(crate) trait Kind: Message + Default + Clone + cable_client::Entity {
    const NOUN: &'static Noun;

    /// Gets the entity with an id or name. The format is that of an article's body.
    async fn get(id: String, format: BodyFormat, cable: &Cable) -> cable_client::Result<Self>;
}

macro_rules! kinds {
    ($($entity:ident, $noun:ident: |$cable:ident, $id:ident, $format:ident| $get:expr;)*) => {$(
        impl Kind for v1::$entity {
            const NOUN: &'static Noun = &$noun;

            async fn get($id: String, $format: BodyFormat, $cable: &Cable) -> cable_client::Result<Self> {
                Ok($get)
            }
        }
    )*};
}

kinds! {
    Article, ARTICLE: |cable, id, format| cable.article(id).body_format(format).await?.into_inner();
    Author, AUTHOR: |cable, id, _format| cable.author(id).await?.into_inner();
    Section, SECTION: |cable, id, _format| cable.section(id).await?.into_inner();
    Tag, TAG: |cable, id, _format| cable.tag(id).await?.into_inner();
    Collection, COLLECTION: |cable, id, _format| {
        cable.collection(id).view(v1::ArticleView::Reference).await?.into_inner().collection
    };
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print one or several.
    Get {
        /// Ids of the entities.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Print all, ordered by id.
    Ls,
    /// Create one or several, or replace them completely.
    Put(Put),
    /// Print the changes that a put would make, as a unified diff.
    Diff(Diff),
    /// Remove one, leaving a tombstone with the reason.
    Rm(Remove),
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
    run(command, cable.authors().page_size(MAX_PAGE_SIZE).items(), cable, output).await
}

/// Runs `cable section`.
pub(crate) async fn section(command: Command, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    run(command, cable.sections().page_size(MAX_PAGE_SIZE).items(), cable, output).await
}

/// Runs `cable tag`.
pub(crate) async fn tag(command: Command, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    run(command, cable.tags().page_size(MAX_PAGE_SIZE).items(), cable, output).await
}

/// Runs `cable collection`. A table of one collection also has its articles.
pub(crate) async fn collection(command: Command, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Get { ids } if output.format() == Format::Table => {
            let get = |id| async { Ok(cable.collection(id).await?.into_inner()) };
            let (collections, missing) = get_each(ids, get).await?;
            print_each(&collections, output, |collection, output| {
                output.one(&Entity::new(&COLLECTION, &collection.collection))?;
                output.text("")?;
                print_list(&ARTICLE, &collection.articles, output)
            })?;
            missing
        }
        command => run(command, cable.collections().page_size(MAX_PAGE_SIZE).items(), cable, output).await,
    }
}

/// Runs a command of a kind. `all` lists the entities of the kind.
async fn run<K: Kind>(
    command: Command,
    all: impl Stream<Item = cable_client::Result<K>> + Unpin,
    cable: &Cable,
    output: &mut Output,
) -> Result<(), Error> {
    match command {
        Command::Get { ids } => {
            let is_single = ids.len() == 1;
            let (entities, missing) = get_each(ids, |id| K::get(id, BodyFormat::Blocks, cable)).await?;
            print_entities(K::NOUN, &entities, is_single, output)?;
            missing
        }
        Command::Ls => print_all(K::NOUN, all, output).await,
        Command::Put(args) => {
            put::run::<K>(args, Some(FileFormat::Json), |call, _| call, cable, output).await
        }
        Command::Diff(args) => put::diff::<K>(args, Some(FileFormat::Json), cable, output).await,
        Command::Rm(args) => remove(K::NOUN, args, cable, output).await,
    }
}

/// Gets the entities with these ids, in their order. Ids that do not exist are left out: the second value is their
/// error.
pub(crate) async fn get_each<T, F: Future<Output = cable_client::Result<T>>>(
    ids: Vec<String>,
    get: impl Fn(String) -> F,
) -> Result<(Vec<T>, Result<(), Error>), Error> {
    let mut results = stream::iter(ids).map(get).buffered(MAX_CONCURRENT_GETS);
    let (mut found, mut missing) = (Vec::new(), Ok(()));
    while let Some(result) = results.next().await {
        match result {
            Ok(value) => found.push(value),
            Err(error) if error.is_not_found() => {
                // The last one is reported by the command's end.
                if let Err(earlier) = std::mem::replace(&mut missing, Err(Error::Call(error))) {
                    note(&earlier.describe())?;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((found, missing))
}

/// Prints values one after the other, with an empty line between them.
pub(crate) fn print_each<T>(
    values: &[T],
    output: &mut Output,
    print: impl Fn(&T, &mut Output) -> Result<(), Error>,
) -> Result<(), Error> {
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            output.text("")?;
        }
        print(value, output)?;
    }
    Ok(())
}

/// Prints the entities that were found: one after the other as tables, and as a listing in the other formats, unless a
/// single one was requested.
pub(crate) fn print_entities<M: Message>(
    noun: &Noun,
    entities: &[M],
    is_single: bool,
    output: &mut Output,
) -> Result<(), Error> {
    match entities {
        [_] if is_single => {
            print_each(entities, output, |entity, output| output.one(&Entity::new(noun, entity)))
        }
        _ if output.format() == Format::Table => {
            print_each(entities, output, |entity, output| output.one(&Entity::new(noun, entity)))
        }
        [] if is_single => Ok(()),
        _ => print_list(noun, entities, output),
    }
}

fn print_list<M: Message>(noun: &Noun, entities: &[M], output: &mut Output) -> Result<(), Error> {
    let mut listing = output.list(noun);
    for entity in entities {
        listing.push(&Entity::new(noun, entity))?;
    }
    listing.finish().map(drop)
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
    print_result(&write_result(&call.await?), "removed", output)
}

/// Prints the result of a write: a sentence for people, a WriteResult for programs.
pub(crate) fn print_result(written: &v1::WriteResult, done: &str, output: &mut Output) -> Result<(), Error> {
    report_conversion(written, output.format())?;
    match output.format() {
        Format::Table => output.text(&describe_result(written, done)),
        _ => output.one(&Entity::of("cable.v1.WriteResult", written)),
    }
}

fn describe_result(written: &v1::WriteResult, done: &str) -> String {
    let done = if written.changed { done } else { "unchanged" };
    let etag = if written.etag.is_empty() { String::new() } else { format!(", etag {}", written.etag) };
    let due = if written.pending { describe_due_time(written.due_time) } else { String::new() };
    let path = match &*written.path_owner {
        "" => String::new(),
        owner => format!(", without its path, which {owner} took"),
    };
    format!("{} {done}: revision {}{etag}{due}{path}", written.name, written.revision)
}

/// Returns the result of a write as a message of the schema.
pub(crate) fn write_result(written: &WriteOutcome) -> v1::WriteResult {
    v1::WriteResult {
        name: written.name.clone(),
        etag: written.etag.clone(),
        revision: written.revision,
        changed: written.changed,
        due_time: written.due_time,
        pending: written.pending,
        path_owner: written.path_owner.clone(),
        body_conversion: written.body_conversion.clone(),
    }
}

/// Reports for people what the server could not map of a body in HTML or Markdown. In JSON, it is in the result.
fn report_conversion(written: &v1::WriteResult, format: Format) -> Result<(), Error> {
    let Some(conversion) = written.body_conversion.as_ref() else { return Ok(()) };
    if matches!(format, Format::Json | Format::Jsonl) {
        return Ok(());
    }
    for line in &conversion.notes {
        note(&format!("{}: body: {line}", written.name))?;
    }
    match conversion.omitted_notes {
        0 => {}
        more => note(&format!("{}: body: {more} further notes", written.name))?,
    }
    match conversion.raw_html_blocks {
        0 => Ok(()),
        count => note(&format!("{}: body: {count} blocks of raw HTML", written.name)),
    }
}

/// Describes when a pending version is due.
fn describe_due_time(time: Option<Timestamp>) -> String {
    match time.and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok()) {
        Some(time) => format!(", pending until {time}"),
        None => ", pending until another put".to_owned(),
    }
}
