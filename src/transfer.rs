//! Export of whole stores: a scan in the order of the log, up to the head. The records found are summed and compared
//! with the counts and the digest of the head, so that no export that lacks a record passes for a complete one.

use std::sync::Arc;

use prost::Message as _;

use crate::{
    compose::{self, Shape},
    digest::Hash,
    entry,
    log::Position,
    model::{Kind, LogId, Revision, Slot},
    pending::Pending,
    refusal::Refusal,
    store::{Damage, Error, Head, Record, RecordCount, Snapshot, Store, Tally},
    wire::{
        Encoded, fields,
        service::{self, record},
        v1,
    },
};

/// The maximum number of records in one message, and its maximum encoded size in bytes, unless a single record is
/// larger: at most 1.3 MiB.
const MAX_CHUNK: usize = 256;
const MAX_CHUNK_BYTES: usize = 1 << 20;

/// The number of records that are counted and not sent in one read: some 10 ms.
const MAX_COUNTED: usize = 2_048;

/// A cursor of one client through an export.
pub(crate) struct Export {
    store: Arc<Store>,
    log_id: LogId,
    /// The revision up to which the client has the records. They are counted and not sent.
    sent_before: Revision,
    /// Whether the export includes pending versions.
    include_pending: bool,
    /// The revision up to which all records have been read.
    at: Revision,
    sent: i64,
    tally: Tally,
    damage: Damage,
}

/// The next step of an export.
pub(crate) enum Next {
    Records { records: Vec<service::Record>, last: Revision },
    End(End),
}

/// The end of an export.
pub(crate) struct End {
    pub(crate) count: i64,
    pub(crate) position: Position,
    pub(crate) content_digest: Hash,
    /// The records that the export lacks.
    pub(crate) damage: Damage,
}

impl Export {
    /// Creates an export that starts after a revision.
    pub(crate) fn new(store: Arc<Store>, after: Revision, include_pending: bool) -> Export {
        let (log_id, tally) = (store.head().log_id, store.start_tally());
        let damage = Damage::default();
        Export { store, log_id, sent_before: after, include_pending, at: 0, sent: 0, tally, damage }
    }

    /// Returns the next records, or the end.
    ///
    /// # Errors
    /// Fails if the store cannot be read, or if more records changed than can be tracked. The export may be resumed.
    pub(crate) async fn next(&mut self) -> Result<Next, Refusal> {
        loop {
            let (at, sent_before) = (self.at, self.sent_before);
            let (log_id, include_pending) = (self.log_id, self.include_pending);
            let chunk = self.store.read(move |snapshot| match at < sent_before {
                true => count(snapshot, at, sent_before),
                false => chunk(snapshot, at, log_id, include_pending),
            });
            let Chunk { records, contents, damage, last, head } = chunk.await?;
            self.damage.merge(&damage);
            let Some(last) = last else {
                // A client can name a revision that is not reached yet. Records that are written up to it meanwhile were not
                // counted, so the export ends at this head.
                if at < sent_before && sent_before <= head.revision {
                    self.at = sent_before;
                    continue;
                }
                return self.end(&head).await.map(Next::End);
            };
            self.at = last;
            self.tally.add(&contents, last, head.revision)?;
            self.sent += records.len() as i64;
            if !records.is_empty() {
                return Ok(Next::Records { records, last });
            }
        }
    }

    async fn end(&mut self, head: &Head) -> Result<End, Refusal> {
        // The records that the last transactions superseded are noted when their head is published.
        let mut heads = self.store.heads();
        let published = heads.wait_for(|published| published.revision >= head.revision).await;
        published.map_err(|_| Refusal::Store(Error::Closed))?;
        let live: i64 = Kind::ALL.iter().map(|kind| head.live(*kind)).sum();
        let found =
            self.tally.at(head.revision)?.expect("superseded records are noted before a head is published");
        let mut damage = std::mem::take(&mut self.damage);
        if damage.is_empty() && found != (live, head.content_digest) {
            tracing::error!(found = found.0, head = live, "export lacks records of the store");
            damage.database = true;
        }
        damage.database |= self.store.is_damaged();
        let content_digest = head.content_digest.to_bytes();
        Ok(End { count: self.sent, position: Position::of(head), content_digest, damage })
    }
}

/// Records that follow a revision, read from one snapshot.
struct Chunk {
    records: Vec<service::Record>,
    /// The content hash of each record that readers see.
    contents: Vec<Hash>,
    damage: Damage,
    /// The last revision read. `None` if there are no more.
    last: Option<Revision>,
    head: Head,
}

fn chunk(
    snapshot: Snapshot<'_>,
    after: Revision,
    log_id: LogId,
    include_pending: bool,
) -> Result<Chunk, Error> {
    let head = snapshot.head()?;
    let mut chunk =
        Chunk { records: Vec::new(), contents: Vec::new(), damage: Damage::default(), last: None, head };
    let mut bytes = 0;
    let slots = if include_pending { &Slot::ALL[..] } else { &[Slot::Live] };
    snapshot.visit_records(after, MAX_CHUNK, slots, |revision, found| {
        let found = match found {
            Ok(found) => found,
            Err(name) => {
                chunk.damage.add(name);
                chunk.last = Some(revision);
                return Ok(true);
            }
        };
        let mut record = encoded(snapshot, &found, log_id)?;
        if include_pending && found.slot == Slot::Live && found.name.kind == Kind::Article {
            record.has_pending = Some(snapshot.has_pending(&found.name)?);
        }
        bytes += fields::bytes_len(1, record.encoded_len());
        if bytes > MAX_CHUNK_BYTES && !chunk.records.is_empty() {
            return Ok(false);
        }
        if found.is_put() && found.slot == Slot::Live {
            chunk.contents.push(entry::content_hash(&found.name, &found.log));
        }
        chunk.records.push(record);
        chunk.last = Some(revision);
        Ok(true)
    })?;
    Ok(chunk)
}

/// Like [`chunk`], for records that are not sent: they are not opened, but their checksums are verified.
fn count(snapshot: Snapshot<'_>, after: Revision, up_to: Revision) -> Result<Chunk, Error> {
    let head = snapshot.head()?;
    let RecordCount { contents, damage, last } = snapshot.count_records((after, up_to), MAX_COUNTED)?;
    Ok(Chunk { records: Vec::new(), contents, damage, last, head })
}

fn encoded(snapshot: Snapshot<'_>, found: &Record, log_id: LogId) -> Result<service::Record, Error> {
    let shape = Shape::FULL_BLOCKS;
    let entity = || Encoded(compose::entity(found, log_id, shape));
    let record = match (found.is_put(), found.name.kind) {
        (false, _) => record::Record::Tombstone(tombstone(found)),
        (true, Kind::Article) if found.slot == Slot::Pending => {
            record::Record::PendingArticle(Pending::read(snapshot, found, log_id, shape)?.into_message())
        }
        (true, Kind::Article) => record::Record::Article(entity()),
        (true, Kind::Author) => record::Record::Author(entity()),
        (true, Kind::Section) => record::Record::Section(entity()),
        (true, Kind::Tag) => record::Record::Tag(entity()),
        (true, Kind::Collection) => record::Record::Collection(entity()),
    };
    let import_source = found.log.import.as_ref().map(|import| import.source.clone()).unwrap_or_default();
    Ok(service::Record { record: Some(record), import_source, ..Default::default() })
}

/// Returns a tombstone with the times of its paths, by which the paths of removed articles are resolved, and those of
/// the name, which a later put retains.
fn tombstone(found: &Record) -> v1::Tombstone {
    let time = |time: i64| (time != 0).then(|| fields::timestamp(time));
    v1::Tombstone {
        former_paths: found.log.former_paths.iter().map(compose::former_path).collect(),
        create_time: time(found.log.create_time),
        first_publish_time: time(found.log.first_publish_time),
        ..compose::tombstone(found)
    }
}
