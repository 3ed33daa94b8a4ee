//! The comparison of feeds and listings with the truth.

use std::{collections::BTreeMap, fmt::Debug};

use cable_client::{Cable, Filter};
use futures_util::TryStreamExt as _;

use super::{
    follower::Followers,
    mirror::{Articles, Held, Shown},
    site::Site,
};
use crate::Outcome;

/// The number of articles on a page.
const PAGE: u32 = 1_000;

/// The maximum number of articles in an error message.
const NAMED: usize = 5;

/// The expected articles of each tag, by the tag's name.
#[derive(Debug)]
pub(super) struct Truth(BTreeMap<String, Articles<Shown>>);

impl Truth {
    pub(super) fn of(site: &Site) -> Truth {
        let mut tags: BTreeMap<String, Articles<Shown>> = BTreeMap::new();
        for article in site.posts().map(|post| &post.article) {
            for tag in &article.tags {
                tags.entry(tag.clone()).or_default().insert(article.name.clone(), article.into());
            }
        }
        Truth(tags)
    }

    /// Compares each tag's feed and listing with the truth, and with one another.
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
            let truth = self.0.get(&tag).unwrap_or(&none);
            let listed = list(cable, &tag).await?;
            let of_tag = |what: String| format!("{tag}: {what}");
            same("the truth", truth, "the feed", &shown(&followed)).map_err(of_tag)?;
            same("the truth", truth, "the listing", &shown(&listed)).map_err(of_tag)?;
            same("the listing", &listed, "the feed", &followed).map_err(of_tag)?;
        }
        Ok(())
    }
}

async fn list(cable: &Cable, tag: &str) -> cable_client::Result<Articles<Held>> {
    let articles = cable.list(Filter::default().tag(tag)).page_size(PAGE).items();
    articles.map_ok(|article| (article.name.clone(), Held::from(&article))).try_collect().await
}

fn shown(held: &Articles<Held>) -> Articles<Shown> {
    held.iter().map(|(name, held)| (name.clone(), held.shown.clone())).collect()
}

fn same<T: PartialEq + Debug>(
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
    let named = differing.iter().take(NAMED).map(|name| {
        format!("\n  {name}\n    {one}: {:?}\n    {other}: {:?}", expected.get(*name), found.get(*name))
    });
    let count = differing.len();
    Err(format!("{one} and {other} differ in {count} articles{}", named.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_on_both_sides() {
        let articles = |all: &[(&str, i64)]| -> Articles<i64> {
            all.iter().map(|(name, revision)| ((*name).to_owned(), *revision)).collect()
        };
        let one = articles(&[("articles/a", 1), ("articles/b", 2), ("articles/c", 3)]);
        assert_eq!(same("one", &one, "other", &one), Ok(()));
        let other = articles(&[("articles/a", 1), ("articles/b", 4), ("articles/d", 5)]);
        let told = same("one", &one, "other", &other).unwrap_err();
        assert_eq!(
            told,
            "one and other differ in 3 articles\
             \n  articles/b\n    one: Some(2)\n    other: Some(4)\
             \n  articles/c\n    one: Some(3)\n    other: None\
             \n  articles/d\n    one: None\n    other: Some(5)"
        );
    }
}
