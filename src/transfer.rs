//! Whole stores out: a scan in the order of the log until it meets the head.

use std::sync::Arc;

use crate::{
    compose::{self, Shape},
    log::Position,
    model::{Kind, LogId, Revision},
    refusal::Refusal,
    store::{Connection, Error, Head, Record, Store, read},
    wire::{
        Encoded,
        service::{self, record},
    },
};

/// Records and bytes of one message: what is stored compressed is several times as large on the wire.
const CHUNK: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;

/// One client's way through an export.
pub(crate) struct Export {
    store: Arc<Store>,
    log_id: LogId,
    after: Revision,
    sent: i64,
}

/// What comes next in an export.
pub(crate) enum Next {
    Records { records: Vec<service::Record>, last: Revision },
    End { count: i64, position: Position, content_digest: [u8; 32] },
}

impl Export {
    /// Starts after a revision.
    pub(crate) fn new(store: Arc<Store>, after: Revision) -> Export {
        let log_id = store.head().log_id;
        Export { store, log_id, after, sent: 0 }
    }

    /// The next records, or the end.
    ///
    /// # Errors
    /// A record is damaged, or the store cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Next, Refusal> {
        let after = self.after;
        let (records, head) = self.store.read(move |connection| chunk(connection, after)).await?;
        let Some(last) = records.last().map(|record| record.revision) else {
            let content_digest = head.content_digest.to_bytes();
            return Ok(Next::End { count: self.sent, position: Position::of(&head), content_digest });
        };
        self.after = last;
        self.sent += records.len() as i64;
        let records = records.iter().map(|record| self.record(record)).collect();
        Ok(Next::Records { records, last })
    }

    fn record(&self, record: &Record) -> service::Record {
        let entity = || Encoded(compose::entity(record, self.log_id, Shape::WHOLE));
        let record = match (record.is_put(), record.name.kind) {
            (false, _) => record::Record::Tombstone(compose::tombstone(record)),
            (true, Kind::Article) => record::Record::Article(entity()),
            (true, Kind::Author) => record::Record::Author(entity()),
            (true, Kind::Section) => record::Record::Section(entity()),
            (true, Kind::Tag) => record::Record::Tag(entity()),
            (true, Kind::Collection) => record::Record::Collection(entity()),
        };
        service::Record { record: Some(record) }
    }
}

/// Records and head of one moment: an empty chunk means that the scan has met that head.
fn chunk(connection: &Connection, after: Revision) -> Result<(Vec<Record>, Head), Error> {
    let moment = connection.unchecked_transaction()?;
    let head = read::head(&moment)?;
    Ok((read::changes(&moment, after, CHUNK, CHUNK_BYTES)?, head))
}
