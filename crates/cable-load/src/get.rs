//! Calls of GetArticle for names drawn from a set.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use cable_client::{Cable, v1::ArticleView};
use cable_proto::full_name;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use super::{
    Error,
    check::{Expected, Fault, Outcome, Response},
    pace,
    random::{Random, Ranks, random_seed},
};

/// Maximum number of articles that a run draws from.
pub const MAX_NAMES: usize = 1_000_000;
/// Maximum size of a file of names, in bytes: `MAX_NAMES` names of the maximum length.
const MAX_FILE_BYTES: u64 = 256 << 20;
const PAGE_SIZE: u32 = 1_000;

/// A set of articles to get.
#[derive(Debug, Clone)]
pub enum Articles {
    /// The articles with these names.
    Named(Vec<String>),
    /// The articles that a file names, one name or id per line.
    File(PathBuf),
    /// The first articles that match the filter, at most this many.
    First(u32),
}

impl Articles {
    /// Returns the names, of which there is at least one.
    pub(crate) async fn names(self, expected: &Expected, cable: &Cable) -> Result<Vec<String>, Error> {
        let names = match self {
            Articles::Named(names) => names,
            Articles::File(file) => read_names(&file)?,
            Articles::First(count) => list_first(count, expected, cable).await?,
        };
        if names.is_empty() { Err(Error::NoArticles) } else { Ok(names) }
    }
}

fn read_names(path: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::io(format!("read {}", path.display()), source);
    let lines = BufReader::new(File::open(path).map_err(failed)?.take(MAX_FILE_BYTES)).lines();
    let mut names = Vec::new();
    for line in lines {
        let line = line.map_err(failed)?;
        if names.len() == MAX_NAMES {
            return Err(Error::TooManyNames(path.to_owned()));
        }
        if !line.trim().is_empty() {
            names.push(full_name("articles", line.trim()));
        }
    }
    Ok(names)
}

async fn list_first(count: u32, expected: &Expected, cable: &Cable) -> Result<Vec<String>, Error> {
    let list = cable.list(expected.filter.clone()).order(expected.order).view(ArticleView::Reference);
    let articles = list.page_size(count.min(PAGE_SIZE)).items().take(count as usize);
    Ok(articles.map_ok(|article| article.name).try_collect().await?)
}

/// GetArticle calls for a set of names.
#[derive(Debug)]
pub(crate) struct Work {
    names: Vec<String>,
    ranks: Ranks,
    seed: u64,
    expected: Expected,
    facts: Vec<(&'static str, Value)>,
}

impl Work {
    pub(crate) fn new(names: Vec<String>, zipf: Option<f64>, seed: Option<u64>, expected: Expected) -> Work {
        let seed = seed.unwrap_or_else(random_seed);
        let facts = vec![("names", names.len().into()), ("zipf", zipf.into()), ("seed", seed.into())];
        let ranks =
            zipf.map_or_else(|| Ranks::uniform(names.len()), |exponent| Ranks::zipf(names.len(), exponent));
        Work { names, ranks, seed, expected, facts }
    }
}

impl pace::Work for Work {
    const NAME: &'static str = "get";

    fn facts(&self) -> Vec<(&'static str, Value)> {
        self.facts.clone()
    }

    async fn call(&self, cable: &Cable, number: u64) -> Outcome {
        let name = &self.names[self.ranks.draw(&mut Random::at(self.seed, number))];
        let call = cable.article(name).view(self.expected.view).body_format(self.expected.format);
        let article = call.await?.into_inner();
        if article.name != *name {
            return Err(Fault::OtherArticle.into());
        }
        let bytes = self.expected.check_article(&article)?;
        Ok(Response { articles: 1, bytes, first: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_names_file_has_one_name_per_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "storm\n\n  articles/calm \n").unwrap();
        assert_eq!(read_names(file.path()).unwrap(), ["articles/storm", "articles/calm"]);
        assert!(read_names(Path::new("/none")).is_err());
    }
}
