//! Pending versions as their publishers see them. Reads for readers are served elsewhere, and never from here.

use super::Publishing;
use crate::{
    compose::Shape,
    model::{LogId, Name, limit},
    page_token::{self, PageScope},
    pending::Pending,
    refusal::Refusal,
    store::{Damage, Error, Record, Snapshot, listing::Cursor},
};

/// The maximum number of records that one job of a reader thread loads.
const MAX_LOADS: usize = 32;

/// A page of pending versions.
#[derive(Debug, Clone, Default)]
pub(crate) struct PendingPage {
    pub(crate) found: Vec<Pending>,
    /// Empty at the end of the listing.
    pub(crate) next_page_token: String,
    /// Pending versions of this page that cannot be read.
    pub(crate) damage: Damage,
}

impl Publishing {
    /// Returns the pending version of an article.
    ///
    /// # Errors
    /// Fails if the article has none, or if the store cannot be read.
    pub(crate) async fn get_pending(&self, name: Name, shape: Shape) -> Result<Pending, Refusal> {
        let log_id = self.store.head().log_id;
        let requested = name.clone();
        let load = move |snapshot: Snapshot<'_>| read_pending(snapshot, &requested, log_id, shape);
        let found = self.store.read(load).await?;
        found.ok_or(Refusal::NotFound(name))
    }

    /// Returns pending versions in the order in which they are due. Those without a due time come last. A page holds at
    /// most `size` versions and 2 MiB, or one larger version.
    ///
    /// # Errors
    /// Fails if the token is not one of this listing, or if the store cannot be read.
    pub(crate) async fn list_pending(
        &self,
        size: usize,
        page_token: &str,
        shape: Shape,
    ) -> Result<PendingPage, Refusal> {
        let log_id = self.store.head().log_id;
        let mut last = page_token::read(page_token, log_id, PageScope::Pending)?;
        let (mut page, mut bytes) = (PendingPage::default(), 0);
        page.damage.database = self.store.is_damaged();
        while page.found.len() < size {
            let (after, limit) = (last.clone(), MAX_LOADS.min(size - page.found.len()));
            let load = move |snapshot: Snapshot<'_>| load(snapshot, after.as_ref(), limit, log_id, shape);
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
                    return Ok(page.with_next_token(last.as_ref(), log_id));
                }
                page.found.extend(pending);
                last = Some(cursor);
            }
        }
        Ok(page.with_next_token(last.as_ref(), log_id))
    }
}

impl PendingPage {
    fn with_next_token(mut self, last: Option<&Cursor>, log_id: LogId) -> PendingPage {
        let token = last.map(|last| page_token::write(last, log_id, PageScope::Pending));
        self.next_page_token = token.unwrap_or_default();
        self
    }
}

fn read_pending(
    snapshot: Snapshot<'_>,
    name: &Name,
    log_id: LogId,
    shape: Shape,
) -> Result<Option<Pending>, Error> {
    let record = snapshot.pending_record(name)?.filter(Record::is_put);
    record.map(|record| Pending::read(snapshot, &record, log_id, shape)).transpose()
}

/// A pending version, or the name of a damaged record, and the cursor after it.
type Loaded = (Cursor, Result<Pending, Name>);

/// Loads pending versions. A damaged record is returned as its name, because it must not blank a page.
fn load(
    snapshot: Snapshot<'_>,
    after: Option<&Cursor>,
    limit: usize,
    log_id: LogId,
    shape: Shape,
) -> Result<Vec<Loaded>, Error> {
    let mut loaded = Vec::with_capacity(limit);
    for (name, cursor) in snapshot.pending_names(after, limit)? {
        let pending = match read_pending(snapshot, &name, log_id, shape) {
            // An index of the same snapshot contains it.
            Ok(None) | Err(Error::Corrupt(_)) => Err(name),
            pending => pending?.ok_or(name),
        };
        loaded.push((cursor, pending));
    }
    Ok(loaded)
}
