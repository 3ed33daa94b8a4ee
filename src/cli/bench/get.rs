//! `cable bench get`: calls GetArticle for names drawn from a set.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use cable_client::{Cable, v1::ArticleView};
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use super::{
    Load, bounded,
    check::{Expected, Fault, Outcome, Response},
    draw::{Draw, random_seed},
    pace,
};
use crate::cli::{
    Error,
    article::{Filter, Shape},
    output::ARTICLE,
};

const MAX_NAMES: usize = 1_000_000;
/// Maximum size of a file of names, in bytes: `MAX_NAMES` names of the maximum length.
const MAX_FILE_BYTES: u64 = 256 << 20;
const PAGE_SIZE: u32 = 1_000;

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Article to get; may be repeated.
    #[arg(long = "name", value_name = "ID", conflicts_with_all = ["Filter", "newest"])]
    names: Vec<String>,
    /// File with the articles to get, one id per line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["names", "Filter", "newest"])]
    names_file: Option<PathBuf>,
    /// Number of articles to get if no names are given: the first N that match the filter.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=MAX_NAMES as i64))]
    newest: u32,
    /// Exponent of the Zipf law by which names are drawn, the first name the most often. If unset, all are equally
    /// likely.
    #[arg(long, value_name = "S", value_parser = zipf)]
    zipf: Option<f64>,
    /// Seed that another run printed, to draw the same names in the same order.
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    pub(super) load: Load,
}

fn zipf(text: &str) -> Result<f64, String> {
    bounded(text, 0.0, 10.0)
}

/// GetArticle calls for a set of names.
#[derive(Debug)]
pub(crate) struct Work {
    names: Vec<String>,
    draw: Draw,
    expected: Expected,
    facts: Vec<(&'static str, Value)>,
}

impl Work {
    pub(crate) async fn new(get: Get, cable: &Cable) -> Result<Work, Error> {
        let names = match &get.names_file {
            Some(file) => read_names(file)?,
            None if get.names.is_empty() => list_newest(&get, cable).await?,
            None => get.names.iter().map(|id| ARTICLE.full_name(id)).collect(),
        };
        if names.is_empty() {
            return Err(Error::Usage("no articles to get".to_owned()));
        }
        let seed = get.seed.unwrap_or_else(random_seed);
        let facts = vec![("names", names.len().into()), ("zipf", get.zipf.into()), ("seed", seed.into())];
        let (view, format) = (get.shape.view(ArticleView::Full), get.shape.body_format());
        let expected = Expected::new(view, format, get.filter.to_message(), get.filter.order());
        Ok(Work { draw: Draw::new(names.len(), get.zipf, seed), names, expected, facts })
    }
}

fn read_names(path: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::io(format!("read {}", path.display()), source);
    let lines = BufReader::new(File::open(path).map_err(failed)?.take(MAX_FILE_BYTES)).lines();
    let mut names = Vec::new();
    for line in lines {
        let line = line.map_err(failed)?;
        if names.len() == MAX_NAMES {
            return Err(Error::Usage(format!(
                "--names-file {}: must have at most {MAX_NAMES} names",
                path.display()
            )));
        }
        if !line.trim().is_empty() {
            names.push(ARTICLE.full_name(line.trim()));
        }
    }
    Ok(names)
}

async fn list_newest(get: &Get, cable: &Cable) -> Result<Vec<String>, Error> {
    let list = cable.list(get.filter.to_message()).order(get.filter.order()).view(ArticleView::Reference);
    let articles = list.page_size(get.newest.min(PAGE_SIZE)).items().take(get.newest as usize);
    Ok(articles.map_ok(|article| article.name).try_collect().await?)
}

impl pace::Work for Work {
    const NAME: &'static str = "get";

    fn facts(&self) -> Vec<(&'static str, Value)> {
        self.facts.clone()
    }

    async fn call(&self, cable: &Cable, number: u64) -> Outcome {
        let name = &self.names[self.draw.rank(number)];
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
