//! Pending versions as their publishers see them. Readers are answered elsewhere, and never from here.

use bytes::Bytes;

use super::Publishing;
use crate::{
    compose::{self, Shape},
    content::token,
    entry::Derived,
    model::{LogId, Name, Revision, limit},
    refusal::Refusal,
    store::{Connection, Damage, Error, Record, due, listing::Cursor, read},
};

/// Records that one job of a reader thread loads.
const LOADS: usize = 32;

/// Binds a page token to this listing: it takes no other terms.
const LISTING: u64 = u64::from_be_bytes(*b"pending.");

/// A version whose time has not come.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    /// The article, encoded.
    pub(crate) article: Bytes,
    /// When it becomes visible, microseconds since 1970 UTC; none: not before another put says so.
    pub(crate) due: Option<i64>,
    /// The live revision that it was based on; 0: there was none.
    pub(crate) base: Revision,
    /// Whether it waits for an editor's decision: another live version is there than it was based on.
    pub(crate) held: bool,
    /// The live article whose path it takes when it becomes visible.
    pub(crate) path_owner: Option<Name>,
}

/// A page of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pendings {
    pub(crate) found: Vec<Pending>,
    /// Empty at the end.
    pub(crate) next_page_token: String,
    /// Pending versions that belong here and cannot be read.
    pub(crate) damage: Damage,
}

impl Pending {
    fn read(connection: &Connection, record: &Record, log_id: LogId, shape: Shape) -> Result<Pending, Error> {
        let article = compose::entity(record, log_id, shape);
        let derived = Derived::pending(&record.log);
        let holders = derived.wanted.map_or(Ok(Vec::new()), |path| read::path_holders(connection, &path))?;
        Ok(Pending {
            article,
            due: derived.due,
            base: record.log.base_revision,
            held: due::is_held(connection, &record.name)?,
            path_owner: holders.into_iter().find(|holder| *holder != record.name),
        })
    }
}

impl Publishing {
    /// The pending version of an article.
    ///
    /// # Errors
    /// It has none, or the store cannot be read.
    pub(crate) async fn pending(&self, name: Name, shape: Shape) -> Result<Pending, Refusal> {
        let log_id = self.store.head().log_id;
        let asked = name.clone();
        let load = move |connection: &Connection| {
            let moment = connection.unchecked_transaction()?;
            waiting(&moment, &asked, log_id, shape)
        };
        let found = self.store.read(load).await?;
        found.ok_or(Refusal::NotFound(name))
    }

    /// Pending versions, the one that is due next first, those without a due time last: at most `size` and 2 MiB, or
    /// one larger one.
    ///
    /// # Errors
    /// The token is not one of this listing, or the store cannot be read.
    pub(crate) async fn pendings(
        &self,
        size: usize,
        page_token: &str,
        shape: Shape,
    ) -> Result<Pendings, Refusal> {
        let log_id = self.store.head().log_id;
        let mut last = token::read(page_token, log_id, LISTING)?;
        let (mut page, mut bytes) = (Pendings::default(), 0);
        page.damage.database = self.store.is_damaged();
        while page.found.len() < size {
            let (after, limit) = (last.clone(), LOADS.min(size - page.found.len()));
            let load = move |connection: &Connection| load(connection, after.as_ref(), limit, log_id, shape);
            let loaded = self.store.read(load).await?;
            if loaded.is_empty() {
                return Ok(page);
            }
            for (cursor, pending) in loaded {
                bytes += pending.as_ref().map_or(0, |pending| pending.article.len());
                if let Err(name) = &pending {
                    page.damage.add(name);
                }
                if bytes > limit::PAGE.maximum as usize && !page.found.is_empty() {
                    return Ok(page.ending(last.as_ref(), log_id));
                }
                page.found.extend(pending);
                last = Some(cursor);
            }
        }
        Ok(page.ending(last.as_ref(), log_id))
    }
}

impl Pendings {
    fn ending(mut self, last: Option<&Cursor>, log_id: LogId) -> Pendings {
        self.next_page_token = last.map(|last| token::write(last, log_id, LISTING)).unwrap_or_default();
        self
    }
}

fn waiting(
    connection: &Connection,
    name: &Name,
    log_id: LogId,
    shape: Shape,
) -> Result<Option<Pending>, Error> {
    let record = read::pending(connection, name)?.filter(Record::is_put);
    record.map(|record| Pending::read(connection, &record, log_id, shape)).transpose()
}

/// A pending version, or the name of a damaged record, and the place after it.
type Loaded = (Cursor, Result<Pending, Name>);

/// A damaged record, given by its name, must not blank a page.
fn load(
    connection: &Connection,
    after: Option<&Cursor>,
    limit: usize,
    log_id: LogId,
    shape: Shape,
) -> Result<Vec<Loaded>, Error> {
    let moment = connection.unchecked_transaction()?;
    let mut loaded = Vec::with_capacity(limit);
    for (name, cursor) in due::pending(&moment, after, limit)? {
        let pending = match waiting(&moment, &name, log_id, shape) {
            // It was found in an index at the same moment.
            Ok(None) | Err(Error::Corrupt(_)) => Err(name),
            pending => pending?.ok_or(name),
        };
        loaded.push((cursor, pending));
    }
    Ok(loaded)
}
