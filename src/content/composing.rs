//! Composes the response to each query: what to read, the order of the fields, and the subjects that the response
//! depends on.

use std::sync::Arc;

use super::{
    Content, Listing, MAX_LOADS, ReadQuery, Selection, Viewer, page::Page, part::State, put_articles,
};
use crate::{
    auth::Scope,
    compose::{Composer, Shape},
    entry::{self, Term},
    model::{Kind, Name, limit, path},
    page_token::{self, PageScope},
    refusal::Refusal,
    store::{
        self, Damage, Subject,
        listing::{Cursor, Order, Query, Slice},
    },
    wire::{fields, number, v1::ItemError},
};

impl Content {
    /// Adds the response to a composer.
    pub(super) async fn put_response(
        &self,
        composer: &mut Composer,
        query: ReadQuery,
        viewer: &Viewer,
    ) -> Result<(), Refusal> {
        match query {
            ReadQuery::Article { name, selection } => {
                self.put_article(composer, name, selection, viewer).await
            }
            ReadQuery::Batch { names, selection } => {
                self.put_batch(composer, &names, selection, viewer).await
            }
            ReadQuery::List { listing, selection } => {
                self.put_list(composer, listing, selection, viewer).await
            }
            ReadQuery::Path { path, selection } => match viewer {
                None => self.put_resolved(composer, path, selection).await,
                Some(scope) => self.put_resolved_within(composer, path, selection, scope).await,
            },
            ReadQuery::Entity(name) => self.put_entity(composer, name).await.map(drop),
            // A collection names articles of any scope, and its texts are about them.
            ReadQuery::Entities { kind: Kind::Collection, .. } if viewer.is_some() => Ok(()),
            ReadQuery::Collection { name, .. } if viewer.is_some() => Err(Refusal::NotFound(name)),
            ReadQuery::Entities { kind, page_size, page_token } => {
                self.put_entities(composer, kind, page_size, &page_token).await
            }
            ReadQuery::Collection { name, selection } => self.put_collection(composer, name, selection).await,
        }
    }

    async fn put_article(
        &self,
        composer: &mut Composer,
        name: Name,
        selection: Selection,
        viewer: &Viewer,
    ) -> Result<(), Refusal> {
        composer.depends_on(Subject::Name(&name));
        let part = self.article(name, selection.shape, viewer).await;
        if let Some(refusal) = part.refusal() {
            return Err(refusal);
        }
        let mut page = Page::new(self, selection, usize::MAX);
        page.add(part).await?;
        put_articles(composer, &page, 1);
        page.includes.compose(composer, 2);
        Ok(())
    }

    async fn put_batch(
        &self,
        composer: &mut Composer,
        names: &[Name],
        selection: Selection,
        viewer: &Viewer,
    ) -> Result<(), Refusal> {
        let mut page = Page::new(self, selection, limit::PAGE.maximum as usize);
        let mut included = 0;
        'page: for group in names.chunks(MAX_LOADS) {
            for part in self.articles(group.to_vec(), selection.shape, viewer).await {
                if let Some(error) = part.failure() {
                    return Err(error.clone().into());
                }
                if !page.add(part.clone()).await? {
                    break 'page;
                }
                composer.depends_on(Subject::Name(&part.name));
                let mut item = Vec::new();
                fields::put_string(&mut item, 1, &part.name.to_string());
                match &part.state {
                    State::Live { bytes, expire_time, .. } => {
                        fields::put_bytes(&mut item, 2, bytes);
                        composer.changes_at(*expire_time);
                    }
                    _ => {
                        let error = part.refusal().as_ref().map(ItemError::from).unwrap_or_default();
                        fields::put_message(&mut item, 3, &error);
                        page.reserve(item.len());
                    }
                }
                composer.field(1, &item);
                included += 1;
            }
        }
        page.includes.compose(composer, 2);
        put_deferred(composer, 3, &names[included..]);
        Ok(())
    }

    async fn put_list(
        &self,
        composer: &mut Composer,
        listing: Listing,
        selection: Selection,
        viewer: &Viewer,
    ) -> Result<(), Refusal> {
        let from = page_token::read(&listing.page_token, self.log_id, listing.scope)?;
        let query = Arc::new(listing.query);
        depend_on_query(composer, &query);
        let bound = limit::PAGE.maximum as usize;
        let (page, next) = self.gather((&query, viewer), from, listing.page_size, selection, bound).await?;
        put_articles(composer, &page, 1);
        page.includes.compose(composer, 2);
        if let Some(cursor) = next {
            composer.field(3, page_token::write(&cursor, self.log_id, listing.scope).as_bytes());
        }
        put_damage(composer, 5, &page.damage);
        Ok(())
    }

    /// Returns one slice of a listing with its articles, and the cursor at which the listing continues.
    pub(super) async fn gather(
        &self,
        (query, viewer): (&Arc<Query>, &Viewer),
        from: Option<Cursor>,
        limit: usize,
        selection: Selection,
        bound: usize,
    ) -> Result<(Page<'_>, Option<Cursor>), Refusal> {
        let mut slice = self.find(query, from.clone(), limit).await?;
        if viewer.is_some() {
            self.complete(&mut slice, query, limit).await?;
        }
        let mut page = Page::new(self, selection, bound);
        page.damage.database = self.store.is_damaged();
        let mut last = from;
        for group in slice.found.chunks(MAX_LOADS) {
            let names = group.iter().map(|(name, _)| name.clone()).collect();
            let parts = self.articles(names, selection.shape, viewer).await;
            for (part, (_, cursor)) in parts.into_iter().zip(group) {
                if let Some(error) = part.failure() {
                    return Err(error.clone().into());
                }
                // A damaged record must not fail the whole page, and must not be omitted silently.
                if part.is_damaged(slice.head, listed_time(query, cursor)) {
                    page.damage.add(&part.name);
                } else if !page.add(part).await? {
                    return Ok((page, last));
                }
                last = Some(cursor.clone());
            }
        }
        Ok((page, slice.next))
    }

    pub(super) async fn find(
        &self,
        query: &Arc<Query>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Slice, store::Error> {
        let query = query.clone();
        self.store.read(move |snapshot| snapshot.articles(&query, after.as_ref(), limit)).await
    }

    /// Continues a slice that ended because many articles were scanned, until it is full or the listing ends. Its length
    /// and its cursor then reveal nothing about the articles that did not match. Each step is a read of its own, and the
    /// deadline of the call bounds their number.
    async fn complete(
        &self,
        slice: &mut Slice,
        query: &Arc<Query>,
        limit: usize,
    ) -> Result<(), store::Error> {
        while slice.found.len() < limit
            && let Some(after) = slice.next.take()
        {
            let more = self.find(query, Some(after), limit - slice.found.len()).await?;
            slice.found.extend(more.found);
            slice.next = more.next;
        }
        Ok(())
    }

    /// As [`Content::put_resolved`], for a caller that is limited to a scope: the claims of other articles on the path
    /// do not exist.
    async fn put_resolved_within(
        &self,
        composer: &mut Composer,
        path: String,
        selection: Selection,
        scope: &Arc<Scope>,
    ) -> Result<(), Refusal> {
        composer.depends_on(Subject::Path(&path));
        let (requested, within) = (path.clone(), scope.clone());
        let found =
            self.store.read(move |snapshot| snapshot.resolve_path_within(&requested, within.query())).await?;
        let (owner, claimants) = found;
        claimants.iter().for_each(|name| composer.depends_on(Subject::Name(name)));
        let not_found = || match self.store.is_damaged() {
            true => Refusal::Store(store::Error::damaged()),
            false => Refusal::PathNotFound,
        };
        let viewer = Some(scope.clone());
        let redirect = self.put_owner(composer, owner.ok_or_else(not_found)?, selection, &viewer).await;
        // The article has left the scope since.
        let own = redirect.map_err(|refusal| match refusal {
            Refusal::NotFound(_) => Refusal::PathNotFound,
            other => other,
        })?;
        put_redirect(composer, own, &path);
        Ok(())
    }

    /// Adds the article that a path leads to, and returns the article's own path.
    async fn put_owner(
        &self,
        composer: &mut Composer,
        owner: Name,
        selection: Selection,
        viewer: &Viewer,
    ) -> Result<Option<String>, Refusal> {
        let part = self.article(owner.clone(), Shape::Basic, viewer).await;
        let own = match &part.state {
            State::Live { bytes, .. } => entry::own_path(bytes),
            _ => None,
        };
        self.put_article(composer, owner, selection, viewer).await?;
        Ok(own)
    }

    async fn put_resolved(
        &self,
        composer: &mut Composer,
        path: String,
        selection: Selection,
    ) -> Result<(), Refusal> {
        composer.depends_on(Subject::Path(&path));
        let requested = path.clone();
        let owner = self.store.read(move |snapshot| snapshot.resolve_path(&requested)).await?;
        let owner = owner.ok_or_else(|| match self.store.is_damaged() {
            true => Refusal::Store(store::Error::damaged()),
            false => Refusal::PathNotFound,
        })?;
        let own = self.put_owner(composer, owner, selection, &None).await?;
        put_redirect(composer, own, &path);
        Ok(())
    }

    /// Adds an entity, and returns its bytes.
    async fn put_entity(&self, composer: &mut Composer, name: Name) -> Result<bytes::Bytes, Refusal> {
        composer.depends_on(Subject::Name(&name));
        let part = self.part(name, Shape::FULL_BLOCKS).await;
        let State::Live { revision, bytes, .. } = &part.state else {
            return Err(part.refusal().unwrap_or(Refusal::Internal("entity is neither live nor missing")));
        };
        composer.entity(1, &part.name, *revision, bytes);
        Ok(bytes.clone())
    }

    async fn put_entities(
        &self,
        composer: &mut Composer,
        kind: Kind,
        page_size: usize,
        page_token: &str,
    ) -> Result<(), Refusal> {
        composer.depends_on(Subject::Kind(kind));
        let scope = PageScope::Entities(kind);
        let after = page_token::read(page_token, self.log_id, scope)?;
        let names = self.store.read(move |snapshot| {
            Ok((snapshot.names(kind, after.as_ref(), page_size + 1)?, snapshot.head()?.revision))
        });
        let (mut names, head) = names.await?;
        let mut more = names.len() > page_size;
        names.truncate(page_size);
        let (mut bytes_used, mut last) = (0, None);
        let mut damage = Damage { database: self.store.is_damaged(), ..Damage::default() };
        'page: for group in names.chunks(MAX_LOADS) {
            for part in self.parts(group.to_vec(), Shape::FULL_BLOCKS).await {
                if let Some(error) = part.failure() {
                    return Err(error.clone().into());
                }
                if let State::Live { revision, bytes, .. } = &part.state {
                    if last.is_some() && bytes_used + bytes.len() > limit::PAGE.maximum as usize {
                        more = true;
                        break 'page;
                    }
                    bytes_used += bytes.len();
                    composer.entity(1, &part.name, *revision, bytes);
                } else if part.is_damaged(head, None) {
                    damage.add(&part.name);
                }
                last = Some(Cursor::by_id(&part.name));
            }
        }
        if let Some(last) = last.filter(|_| more) {
            composer.field(2, page_token::write(&last, self.log_id, scope).as_bytes());
        }
        put_damage(composer, 3, &damage);
        Ok(())
    }

    async fn put_collection(
        &self,
        composer: &mut Composer,
        name: Name,
        selection: Selection,
    ) -> Result<(), Refusal> {
        let collection = self.put_entity(composer, name).await?;
        let listed = fields::fields(&collection)
            .map_while(Result::ok)
            .filter(|field| field.number == number::COLLECTION_ARTICLES);
        let text = |field: fields::Field<'_>| String::from_utf8_lossy(field.value).into_owned();
        let names: Vec<Name> = listed.filter_map(|field| Name::parse(&text(field))).collect();
        let mut page = Page::new(self, selection, limit::PAGE.maximum as usize);
        page.reserve(collection.len());
        let mut included = 0;
        'page: for group in names.chunks(MAX_LOADS) {
            for article in self.parts(group.to_vec(), selection.shape).await {
                if let Some(error) = article.failure() {
                    return Err(error.clone().into());
                }
                if !page.add(article.clone()).await? {
                    break 'page;
                }
                match &article.state {
                    State::Live { .. } => {}
                    State::Failed(_) => page.includes.damaged.push(article.name.clone()),
                    State::Gone(_) | State::Absent | State::Hidden => {
                        page.includes.missing.push(article.name.clone())
                    }
                }
                composer.depends_on(Subject::Name(&article.name));
                included += 1;
            }
        }
        put_articles(composer, &page, 2);
        page.includes.compose(composer, 3);
        put_deferred(composer, 4, &names[included..]);
        Ok(())
    }
}

/// Adds the own path of the article that a path leads to, if it is another one.
fn put_redirect(composer: &mut Composer, own: Option<String>, path: &str) {
    if let Some(own) = own.filter(|own| path::normalise(own) != path) {
        composer.field(4, own.as_bytes());
    }
}

/// Adds a description of the records that the response lacks, if it lacks any.
pub(super) fn put_damage(composer: &mut Composer, field: u32, damage: &Damage) {
    if let Some(damage) = damage.to_message() {
        composer.field(field, &prost::Message::encode_to_vec(&damage));
    }
}

/// Returns the time that a record must have to be found at a cursor. None if the listing is not ordered by time.
fn listed_time(query: &Query, cursor: &Cursor) -> Option<i64> {
    (query.order == Order::Time).then_some(cursor.key)
}

/// Adds the names for which the message has no room.
fn put_deferred(composer: &mut Composer, field: u32, names: &[Name]) {
    for name in names {
        composer.field(field, name.to_string().as_bytes());
    }
}

/// Makes a response depend on the subjects of a query. An article that enters the listing, leaves it or changes in it
/// is, or was, in a list of each group, so the smallest group is sufficient. The sections of a tree depend on all
/// sections.
pub(super) fn depend_on_query(composer: &mut Composer, query: &Query) {
    if !query.section_trees.is_empty() {
        composer.depends_on(Subject::Kind(Kind::Section));
    }
    match query.groups.iter().min_by_key(|group| group.len()) {
        Some(group) => group.iter().for_each(|term| composer.depends_on(Subject::Term(term))),
        None => composer.depends_on(Subject::Term(&Term::All)),
    }
}
