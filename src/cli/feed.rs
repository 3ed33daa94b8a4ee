//! `cable feed watch`: prints changes as they happen, line by line.

use std::{path::PathBuf, sync::Mutex};

use cable::admin;
use cable_client::{
    Cable, Delivery, EntityKind, Event, Feed, FeedChange, FeedFilter, FilePosition, NameState, Position,
    RawRecord, RemovalReason, ResetReason, v1, v1::ArticleView,
};
use clap::{Args, ValueEnum};
use futures_util::{FutureExt as _, StreamExt as _, future::FusedFuture as _};
use prost_types::Timestamp;
use serde_json::Value;
use tokio::signal::ctrl_c;

use super::{
    Error,
    article::Shape,
    note,
    output::{Entity, Format, Output, format_minute},
    unmatched,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print changes as they happen, until interrupted. With -o json each is an object on one line, as with -o jsonl.
    Watch(Watch),
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    start: Start,
    /// Restart from a snapshot if the position is no longer available, instead of failing.
    #[arg(long)]
    allow_reset: bool,
    /// Include old content that is being loaded.
    #[arg(long)]
    include_backfill: bool,
    /// File that stores the position; the feed resumes after the position that it contains.
    #[arg(long, value_name = "FILE", conflicts_with = "consumer")]
    position_file: Option<PathBuf>,
    /// Name of a consumer: the service stores the position of what is printed; the feed resumes after that position.
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// Exit once caught up, or with an error if no node serves the feed for as long as --timeout. Without this option, the
    /// command retries until one does.
    #[arg(long)]
    until_caught_up: bool,
}

/// A filter of changes. All conditions that are given must hold; with a tag, section or author, only articles match.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    /// Tag that articles must have; if repeated, at least one of them.
    #[arg(long = "any-tag", value_name = "TAG")]
    any_tags: Vec<String>,
    /// Section that articles must belong to; if repeated, at least one of them.
    #[arg(long = "section", value_name = "SECTION")]
    sections: Vec<String>,
    /// Author of the articles; if repeated, at least one of them.
    #[arg(long = "author", value_name = "AUTHOR")]
    authors: Vec<String>,
    /// Kind of the entities; if repeated, one of them.
    #[arg(long = "kind", value_enum, value_name = "KIND")]
    kinds: Vec<Kind>,
}

/// The start of a feed. If unset, it delivers changes from now on.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct Start {
    /// Position to start after: the JSON object `position` of a line, `LOG:REVISION:CHAIN` as in the file of
    /// --position-file, the same without the chain (`fe49a3a5:7190`), or the revision alone (`7190`). Without the log,
    /// the history is not checked.
    #[arg(long, value_name = "POSITION", value_parser = position)]
    after: Option<Position>,
    /// Start with a snapshot: everything that matches now.
    #[arg(long)]
    snapshot: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Article,
    Author,
    Section,
    Tag,
    Collection,
}

impl From<Kind> for EntityKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Article => EntityKind::Article,
            Kind::Author => EntityKind::Author,
            Kind::Section => EntityKind::Section,
            Kind::Tag => EntityKind::Tag,
            Kind::Collection => EntityKind::Collection,
        }
    }
}

impl Filter {
    /// Returns the filter as a message of the schema.
    pub(crate) fn to_message(&self) -> FeedFilter {
        let filter = FeedFilter::default();
        let filter = self.any_tags.iter().fold(filter, FeedFilter::any_tag);
        let filter = self.sections.iter().fold(filter, FeedFilter::section);
        let filter = self.authors.iter().fold(filter, FeedFilter::author);
        self.kinds.iter().fold(filter, |filter, kind| filter.kind((*kind).into()))
    }

    /// Returns the names that articles must have.
    pub(crate) fn names(&self) -> unmatched::Names {
        let FeedFilter { any_tags: tags, sections, authors, .. } = self.to_message();
        unmatched::Names { tags, sections, authors }
    }
}

fn position(text: &str) -> Result<Position, String> {
    let expected = || {
        let json = "the JSON object of a line's position";
        format!(
            "expected LOG:REVISION:CHAIN, {json}, a revision such as 7190, or one of a log, fe49a3a5:7190"
        )
    };
    if text.starts_with('{') {
        return position_json(text).ok_or_else(expected);
    }
    // In JSON the chain is in base64: 44 characters where hex has 64.
    match text.rsplit_once(':').filter(|(_, chain)| chain.len() == 44) {
        Some((log_and_revision, chain)) => {
            let mut position: Position = log_and_revision.parse().map_err(|_| expected())?;
            position.chain = base64(chain).ok_or_else(expected)?.into();
            Ok(position)
        }
        None => text.trim_end().parse().map_err(|_| expected()),
    }
}

/// Parses a position as a line prints it.
fn position_json(text: &str) -> Option<Position> {
    let json: Value = serde_json::from_str(text).ok()?;
    let text = |field: &str| json.get(field).and_then(Value::as_str).unwrap_or_default();
    // JSON omits a revision of 0.
    let revision = Some(text("revision")).filter(|revision| !revision.is_empty()).unwrap_or("0");
    let mut position: Position = format!("{}:{revision}", text("logId")).parse().ok()?;
    position.chain = base64(text("chain"))?.into();
    Some(position)
}

fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.decode(text).ok()
}

/// Returns the error of a feed, with a remedy if the feed cannot resume.
fn feed_error(error: cable_client::Error) -> Error {
    use cable_client::ErrorReason::{LogChanged, RevisionCompacted};
    match error.reason() {
        Some(LogChanged | RevisionCompacted) => Error::Resume(error),
        _ => Error::Call(error),
    }
}

/// Returns a callback that reports on standard error why a feed retries; equal reports in a row are printed once.
pub(crate) fn log_retry() -> impl Fn(&cable_client::Error) + Send + Sync + 'static {
    let last = Mutex::new(String::new());
    move |error| {
        let text = format!("cable: {}: {}; retrying", error.code_and_reason(), error.message());
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *last != text {
            let _unreportable = note(&text);
            *last = text;
        }
    }
}

/// Runs the command.
pub(crate) async fn run(command: Command, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    let Command::Watch(watch) = command;
    watch.position_file.as_deref().map_or(Ok(()), admin::check_no_store)?;
    let mut feed = open(&watch, cable);
    let mut lines = Lines { output, caught_up: false };
    let mut interrupt = std::pin::pin!(ctrl_c());
    let mut hints = std::pin::pin!(unmatched::report(watch.filter.names(), cable).fuse());
    loop {
        let delivery = tokio::select! {
            _ = &mut interrupt => break,
            reported = &mut hints => {
                reported?;
                continue;
            }
            delivery = feed.next() => delivery,
        };
        let Some(delivery) = delivery else { break };
        lines.print(&delivery.map_err(feed_error)?)?;
        if watch.until_caught_up && feed.is_caught_up() {
            break;
        }
    }
    if watch.until_caught_up && !hints.is_terminated() {
        hints.await?;
    }
    Ok(feed.close().await?)
}

fn open(watch: &Watch, cable: &Cable) -> Feed {
    let mut feed = cable
        .feed(watch.filter.to_message())
        .view(watch.shape.view(ArticleView::Basic))
        .body_format(watch.shape.body_format())
        .allow_reset(watch.allow_reset)
        .on_retry(log_retry());
    if watch.include_backfill {
        feed = feed.include_backfill();
    }
    if watch.until_caught_up {
        feed = feed.max_outage(cable.timeout());
    }
    if let Some(position) = &watch.start.after {
        feed = feed.after(position);
    } else if watch.start.snapshot {
        feed = feed.with_snapshot();
    }
    match (&watch.position_file, &watch.consumer) {
        (Some(file), _) => feed.save_to(FilePosition::new(file)).open(),
        (None, Some(name)) => feed.consumer(name).open(),
        (None, None) => feed.open(),
    }
}

/// A printer of the deliveries of a feed.
struct Lines<'a> {
    output: &'a mut Output,
    /// Whether the last line for people reported that the feed has caught up.
    caught_up: bool,
}

impl Lines<'_> {
    fn print(&mut self, delivery: &Delivery) -> Result<(), Error> {
        let lines = match self.output.format() {
            Format::Jsonl | Format::Json => json(delivery),
            Format::Id => names(&delivery.event),
            Format::Table => {
                let caught_up = delivery.event == Event::Checkpoint { behind: false };
                if std::mem::replace(&mut self.caught_up, caught_up) && caught_up {
                    return Ok(());
                }
                readable(delivery)
            }
        };
        lines.iter().try_for_each(|line| self.output.text(line))
    }
}

/// Returns one object per line: `change`, `snapshot`, `snapshotEnd`, `checkpoint` or `reset`. The last line of a
/// delivery has its position, which also covers the lines before it.
fn json(delivery: &Delivery) -> Vec<String> {
    let mut lines: Vec<String> = match &delivery.event {
        Event::Changes(changes) => changes.iter().map(change_json).collect(),
        Event::Snapshot(records) => {
            records.iter().map(|record| format!("\"snapshot\":{}", line("cable.v1.Record", record))).collect()
        }
        Event::SnapshotEnd { count, damage } => {
            let mut end = v1::FeedSnapshotEnd::default();
            (end.count, end.damage) = (i64::try_from(*count).unwrap_or(i64::MAX), damage.clone());
            vec![format!("\"snapshotEnd\":{}", line("cable.v1.FeedSnapshotEnd", &end))]
        }
        Event::Checkpoint { behind: false } => vec!["\"checkpoint\":{}".to_owned()],
        Event::Checkpoint { behind: true } => vec!["\"checkpoint\":{\"behind\":true}".to_owned()],
        Event::Reset(reason) => vec![format!("\"reset\":{{\"reason\":\"{}\"}}", reason_name(*reason))],
        _ => Vec::new(),
    };
    if let (Some(last), Some(position)) = (lines.last_mut(), &delivery.position) {
        *last += &format!(",\"position\":{}", line("cable.v1.Position", position));
    }
    lines.into_iter().map(|line| format!("{{{line}}}")).collect()
}

fn line(full_name: &str, message: &impl prost::Message) -> String {
    Entity::of(full_name, message).line()
}

fn change_json(change: &FeedChange) -> String {
    format!("\"change\":{}", line("cable.v1.FeedChange", &v1::FeedChange::from(change.clone())))
}

fn reason_name(reason: ResetReason) -> &'static str {
    match reason {
        ResetReason::Compacted => "COMPACTED",
        ResetReason::LogChanged => "LOG_CHANGED",
        ResetReason::SnapshotBroken => "SNAPSHOT_BROKEN",
        _ => "OTHER",
    }
}

fn names(event: &Event) -> Vec<String> {
    match event {
        Event::Changes(changes) => changes.iter().map(|change| change.name.clone()).collect(),
        Event::Snapshot(records) => records.iter().filter_map(|record| record.name().ok()).collect(),
        _ => Vec::new(),
    }
}

/// Describes the records that a snapshot or a list lacks.
pub(crate) fn describe_damage(damage: &v1::Damage) -> String {
    if damage.database {
        return "the server's database is damaged".to_owned();
    }
    format!("{} records cannot be read by the server: {}", damage.count, damage.names.join(" "))
}

/// Returns lines for people: revision, time, event and entity.
fn readable(delivery: &Delivery) -> Vec<String> {
    let at = delivery.position.as_ref().map_or(0, |position| position.revision);
    match &delivery.event {
        Event::Changes(changes) => changes.iter().map(readable_change).collect(),
        Event::Snapshot(records) => {
            records.iter().map(|record| format!("{:>28}  snapshot  {}", "", name_and_title(record))).collect()
        }
        Event::SnapshotEnd { count, damage } => {
            let incomplete =
                damage.iter().map(|damage| format!("{at:>9}  incomplete: {}", describe_damage(damage)));
            std::iter::once(format!("{at:>9}  snapshot complete ({count})")).chain(incomplete).collect()
        }
        Event::Checkpoint { behind: false } => vec![format!("{at:>9}  caught up")],
        Event::Checkpoint { behind: true } => vec![format!("{at:>9}  progress")],
        Event::Reset(reason) => vec![format!("{:>9}  reset: {}", "", reason_name(*reason))],
        _ => Vec::new(),
    }
}

fn readable_change(change: &FeedChange) -> String {
    let event = match &change.state {
        NameState::Upsert(record) => format!("put       {}", name_and_title(record)),
        NameState::Left => format!("left      {}", change.name),
        NameState::Removed(tombstone) => {
            format!("removed   {}  ({})", change.name, removal_reason(tombstone))
        }
        NameState::Unreadable => format!("unreadable  {}", change.name),
        _ => change.name.clone(),
    };
    format!("{:>9}  {:17}  {event}", change.revision, change.time.map(format_time).unwrap_or_default())
}

fn removal_reason(tombstone: &v1::Tombstone) -> String {
    match tombstone.reason() {
        RemovalReason::Moved => format!("moved to {}", tombstone.moved_to),
        reason => reason.as_str_name().trim_start_matches("REMOVAL_REASON_").to_ascii_lowercase(),
    }
}

fn format_time(time: Timestamp) -> String {
    jiff::Timestamp::new(time.seconds, time.nanos).map(format_minute).unwrap_or_default()
}

/// Returns the name of a record with its headline, display name or title.
fn name_and_title(record: &RawRecord) -> String {
    let value = Entity::of("cable.v1.Record", record).value();
    let entity = value.as_object().and_then(|record| record.values().next()).unwrap_or(&Value::Null);
    let text = |field: &str| entity.get(field).and_then(Value::as_str).unwrap_or_default();
    let titles = ["headline", "displayName", "title"].map(text);
    let title = titles.into_iter().find(|title| !title.is_empty()).unwrap_or_default();
    let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}  {title}", text("name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_parsed_from_each_of_its_forms() {
        assert_eq!(position("7190").unwrap(), Position::from(7190));
        let parsed = position("fe49a3a5:0").unwrap();
        assert_eq!((parsed.log_id.as_str(), parsed.revision), ("fe49a3a5", 0));
        let mut complete = parsed;
        (complete.revision, complete.chain) = (7190, (0..32).collect::<Vec<u8>>().into());
        let json = line("cable.v1.Position", &complete);
        let chain = serde_json::from_str::<Value>(&json).unwrap()["chain"].as_str().unwrap().to_owned();
        for text in [complete.to_string(), format!("{complete}\n"), format!("fe49a3a5:7190:{chain}"), json] {
            assert_eq!(position(&text).unwrap(), complete, "{text}");
        }
        let (hex, no_log) = (complete.to_string(), r#"{"revision":"7"}"#);
        let truncated = [&hex[..hex.len() - 1], "fe49a3a5:7:", &chain, "{}", no_log, "{\"logId\""];
        for invalid in ["", "x", "-1", ":7", "fe49:7", "fe49a3a5:", "fe49a3a5:x", "zzzzzzzz:7"]
            .into_iter()
            .chain(truncated)
        {
            assert!(position(invalid).is_err(), "{invalid}");
        }
    }
}
