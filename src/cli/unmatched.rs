//! Hints about tags, sections and authors of a filter that no article has. Without them, a misspelt name is silence.

use cable_client::{Cable, ErrorKind, v1};
use futures_util::{Stream, StreamExt as _};

use super::{
    Error, note,
    nouns::{AUTHOR, Noun, SECTION, TAG},
};
use cable::near;

/// Maximum number of names that are compared with a misspelt one: a few pages of the service.
const MAX_COMPARED: usize = 10_000;

/// The server's limit on a page.
const MAX_PAGE_SIZE: u32 = 1_000;

/// The names that the articles of a listing or feed must have.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) tags: Vec<String>,
    pub(crate) sections: Vec<String>,
    pub(crate) authors: Vec<String>,
}

/// Notes for each of the names that no article has it, with the name that is near. A hint is not worth a failure: it is
/// omitted if the service fails.
pub(crate) async fn report(names: Names, cable: &Cable) -> Result<(), Error> {
    let Names { tags, sections, authors } = names;
    for (noun, names) in [(&TAG, tags), (&SECTION, sections), (&AUTHOR, authors)] {
        for name in names {
            if has_articles(noun, &name, cable).await.unwrap_or(true) {
                continue;
            }
            let near = nearest(noun, &name, cable).await;
            let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            note(&format!("cable: no article has {name}{hint}"))?;
        }
    }
    Ok(())
}

async fn has_articles(noun: &Noun, name: &str, cable: &Cable) -> cable_client::Result<bool> {
    let mut filter = v1::ArticleFilter::default();
    let name = name.to_owned();
    match noun.plural {
        "tags" => filter.any_tags.push(name),
        "authors" => filter.authors.push(name),
        _ => (filter.section, filter.include_child_sections) = (name, true),
    }
    let mut articles = cable.list(filter).view(v1::ArticleView::Reference).page_size(1).items();
    match articles.next().await {
        Some(Ok(_)) => Ok(true),
        // Articles that cannot be read have the name nevertheless.
        Some(Err(error)) if error.kind() == ErrorKind::DataLoss => Ok(true),
        Some(Err(error)) => Err(error),
        None => Ok(false),
    }
}

/// Returns the name whose id or display name is near the id of `name`.
async fn nearest(noun: &Noun, name: &str, cable: &Cable) -> Option<String> {
    let known = match noun.plural {
        "tags" => {
            names(cable.tags().page_size(MAX_PAGE_SIZE).items(), |tag| [tag.name, tag.display_name]).await
        }
        "authors" => {
            let authors = cable.authors().page_size(MAX_PAGE_SIZE).items();
            names(authors, |author| [author.name, author.display_name]).await
        }
        _ => {
            let sections = cable.sections().page_size(MAX_PAGE_SIZE).items();
            names(sections, |section| [section.name, section.display_name]).await
        }
    };
    let id = name.split_once('/').map_or(name, |(_, id)| id);
    // The display name first: an id that equals it is not the one that was given.
    let texts = known.iter().flat_map(|[name, title]| [(name, title), (name, name)]);
    near::nearest(id, texts, |(_, text)| text.split_once('/').map_or(text.as_str(), |(_, id)| id))
        .map(|(name, _)| name.clone())
        .filter(|near| near != name)
}

/// Returns the names and display names in a listing, as far as it can be read.
async fn names<E>(
    listing: impl Stream<Item = cable_client::Result<E>>,
    of: impl Fn(E) -> [String; 2],
) -> Vec<[String; 2]> {
    let readable = listing.take_while(|entity| std::future::ready(entity.is_ok()));
    readable.take(MAX_COMPARED).filter_map(|entity| std::future::ready(entity.ok().map(&of))).collect().await
}
