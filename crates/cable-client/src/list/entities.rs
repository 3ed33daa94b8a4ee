//! Listings of authors, sections, tags and collections.

use std::{future::Future, marker::PhantomData, time::Duration};

use futures_util::stream;

use super::{PageItems, ResultStream, items, non_empty};
use crate::{
    Cable, Error, Result,
    shape::{Shape, freshness_setters},
    v1,
};

impl Cable {
    /// Lists all authors, sorted by id.
    pub fn authors(&self) -> ListEntities<v1::Author> {
        ListEntities::new(self)
    }

    /// Lists all sections, sorted by id.
    pub fn sections(&self) -> ListEntities<v1::Section> {
        ListEntities::new(self)
    }

    /// Lists all tags, sorted by id.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use futures_util::TryStreamExt as _;
    ///
    /// let mut tags = cable.tags().items();
    /// while let Some(tag) = tags.try_next().await? {
    ///     println!("{}", tag.display_name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn tags(&self) -> ListEntities<v1::Tag> {
        ListEntities::new(self)
    }

    /// Lists all collections, sorted by id, without the content of their articles.
    pub fn collections(&self) -> ListEntities<v1::Collection> {
        ListEntities::new(self)
    }
}

/// A call that lists all authors, sections, tags or collections, sorted by id; [`items`](ListEntities::items) returns
/// the stream. See [`Cable::tags`].
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use futures_util::TryStreamExt as _;
///
/// let sections: Vec<_> = cable.sections().page_size(1_000).items().try_collect().await?;
/// let top = sections.iter().filter(|section| section.parent.is_empty());
/// println!("{} of {} sections are at the top", top.count(), sections.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless their stream is polled"]
pub struct ListEntities<E> {
    cable: Cable,
    page_size: i32,
    shape: Shape,
    timeout: Option<Duration>,
    entity: PhantomData<fn() -> E>,
}

impl<E: Listable> ListEntities<E> {
    fn new(cable: &Cable) -> Self {
        ListEntities {
            cable: cable.clone(),
            page_size: 0,
            shape: Shape::default(),
            timeout: None,
            entity: PhantomData,
        }
    }

    freshness_setters!();

    /// Sets the largest number of entities per call, at most 1,000. If unset or 0, 50.
    pub fn page_size(mut self, entities: u32) -> Self {
        self.page_size = entities.try_into().unwrap_or(i32::MAX);
        self
    }

    /// Returns all entities. If the server cannot read some, the last item is an error
    /// ([`ErrorKind::DataLoss`](crate::ErrorKind::DataLoss)).
    #[must_use]
    pub fn items(self) -> ResultStream<E> {
        let ListEntities { cable, page_size, shape, timeout, .. } = self;
        let step = move |token: Option<String>| {
            let (cable, shape) = (cable.clone(), shape.clone());
            async move {
                let Some(token) = token else { return Ok::<_, Error>(None) };
                Ok(Some(E::page(&cable, page_size, token, shape.freshness, timeout).await?))
            }
        };
        items(stream::try_unfold(Some(String::new()), step))
    }
}

/// An author, section, tag or collection: a kind of entity that can be listed by id.
pub trait Listable: Sized + Send + 'static {
    #[doc(hidden)]
    fn page(
        cable: &Cable,
        page_size: i32,
        page_token: String,
        freshness: Option<v1::Freshness>,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<(PageItems<Self>, Option<String>)>> + Send;
}

macro_rules! listable {
    ($($entity:ident: $request:ident, $field:ident;)*) => {$(
        impl Listable for v1::$entity {
            async fn page(
                cable: &Cable,
                page_size: i32,
                page_token: String,
                freshness: Option<v1::Freshness>,
                timeout: Option<Duration>,
            ) -> Result<(PageItems<Self>, Option<String>)> {
                let request = v1::$request { page_size, page_token, freshness };
                let response = cable.call(request, timeout).await?;
                Ok(((response.$field, response.damage), non_empty(response.next_page_token)))
            }
        }
    )*};
}

listable! {
    Author: ListAuthorsRequest, authors;
    Section: ListSectionsRequest, sections;
    Tag: ListTagsRequest, tags;
    Collection: ListCollectionsRequest, collections;
}
