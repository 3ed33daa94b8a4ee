//! The comparison of feeds and listings with the files.

use std::{collections::BTreeMap, fmt::Debug};

use cable_client::{Cable, Filter};
use futures_util::TryStreamExt as _;

use super::{
    follower::Followers,
    mirror::{Articles, ComparedFields, MirroredArticle},
    site::Site,
};
use crate::Outcome;

/// The number of articles on a page.
const PAGE_SIZE: u32 = 1_000;

/// The maximum number of articles in an error message.
const MAX_NAMED: usize = 5;

/// The expected articles of each tag, by the tag's name.
#[derive(Debug)]
pub(super) struct Expected(BTreeMap<String, Articles<ComparedFields>>);

impl Expected {
    pub(super) fn of(site: &Site) -> Expected {
        let mut tags: BTreeMap<String, Articles<ComparedFields>> = BTreeMap::new();
        for article in site.posts().map(|post| &post.article) {
            for tag in &article.tags {
                tags.entry(tag.clone()).or_default().insert(article.name.clone(), article.into());
            }
        }
        Expected(tags)
    }

    /// Compares each tag's feed and listing with the files, and with one another.
    ///
    /// # Errors
    /// Fails if they differ. The error has the tag and the articles.
    pub(super) async fn check(&self, followers: &Followers, cable: &Cable) -> Outcome<()> {
        let none = Articles::new();
        for follower in followers.iter() {
            let (tag, followed) = {
                let mirror = follower.mirror.borrow();
                (mirror.tag.clone(), mirror.articles.clone())
            };
            let expected = self.0.get(&tag).unwrap_or(&none);
            let listed = list(cable, &tag).await?;
            let of_tag = |difference: String| format!("{tag}: {difference}");
            compare("the files", expected, "the feed", &compared_fields(&followed)).map_err(of_tag)?;
            compare("the files", expected, "the listing", &compared_fields(&listed)).map_err(of_tag)?;
            compare("the listing", &listed, "the feed", &followed).map_err(of_tag)?;
        }
        Ok(())
    }
}

async fn list(cable: &Cable, tag: &str) -> cable_client::Result<Articles<MirroredArticle>> {
    let articles = cable.list(Filter::default().tag(tag)).page_size(PAGE_SIZE).items();
    articles.map_ok(|article| (article.name.clone(), MirroredArticle::from(&article))).try_collect().await
}

fn compared_fields(mirrored: &Articles<MirroredArticle>) -> Articles<ComparedFields> {
    mirrored.iter().map(|(name, mirrored)| (name.clone(), mirrored.fields.clone())).collect()
}

fn compare<T: PartialEq + Debug>(
    one: &str,
    expected: &Articles<T>,
    other: &str,
    found: &Articles<T>,
) -> Result<(), String> {
    let names = expected.keys().chain(found.keys().filter(|name| !expected.contains_key(*name)));
    let differing: Vec<&String> = names.filter(|name| expected.get(*name) != found.get(*name)).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let details = differing.iter().take(MAX_NAMED).map(|name| {
        format!("\n  {name}\n    {one}: {:?}\n    {other}: {:?}", expected.get(*name), found.get(*name))
    });
    let count = differing.len();
    Err(format!("{one} and {other} differ in {count} articles{}", details.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differing_articles_are_listed_with_both_values() {
        let articles = |all: &[(&str, i64)]| -> Articles<i64> {
            all.iter().map(|(name, revision)| ((*name).to_owned(), *revision)).collect()
        };
        let one = articles(&[("articles/a", 1), ("articles/b", 2), ("articles/c", 3)]);
        assert_eq!(compare("one", &one, "other", &one), Ok(()));
        let other = articles(&[("articles/a", 1), ("articles/b", 4), ("articles/d", 5)]);
        let error = compare("one", &one, "other", &other).unwrap_err();
        assert_eq!(
            error,
            "one and other differ in 3 articles\
             \n  articles/b\n    one: Some(2)\n    other: Some(4)\
             \n  articles/c\n    one: Some(3)\n    other: None\
             \n  articles/d\n    one: None\n    other: Some(5)"
        );
    }
}
