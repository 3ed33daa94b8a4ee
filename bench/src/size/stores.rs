//! Two stores that differ only in the number of their articles. The hot ones are in both.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    generate::{self, Uniform, article_id},
    node::Program,
    scale::drop_from_page_cache,
};

/// The number of articles that are read hot, and the approximate encoded size of each in bytes.
pub(super) const HOT: u64 = 1_000;
const HOT_BYTES: usize = 6_400;
/// The size in bytes of the articles that make a store large. It is small, so that the store is built in limited time.
const BULK_BYTES: usize = 1_000;

/// A tag on each of the hot articles and on no other.
pub(super) const HOT_TAG: &str = "hot";
/// A tag on every third article of a store. The hot articles are the newest, so its first page is the same in both.
pub(super) const THIRD_TAG: &str = "third";
const THIRD: u64 = 3;

/// The file that marks the stores of a directory as complete. It has the number of articles in the large one.
const MARKER_FILE: &str = "built";

/// Two stores that no process has open.
#[derive(Debug)]
pub(super) struct Stores {
    dir: PathBuf,
    /// The number of articles in the large store.
    pub(super) articles: u64,
    /// The duration of the import that makes it large; none if the store existed before.
    pub(super) imported: Option<Duration>,
}

/// One of the two stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Small,
    Large,
}

impl Stores {
    /// Opens the stores of a directory if they have this number of articles; else builds them there.
    ///
    /// # Errors
    /// Fails if the directory contains anything else, or if an import fails.
    pub(super) fn open(program: &Program, dir: &Path, articles: u64) -> Outcome<Stores> {
        let built = dir.join(MARKER_FILE);
        let mut stores = Stores { dir: dir.to_owned(), articles, imported: None };
        match fs::read_to_string(&built) {
            Ok(count) if count.trim() == articles.to_string() => return Ok(stores),
            Ok(count) => {
                return Err(format!("the large store in {} has {count} articles", dir.display()).into());
            }
            Err(_) => fs::create_dir(dir)?,
        }
        stores.imported = Some(stores.build(program)?);
        fs::write(built, articles.to_string())?;
        Ok(stores)
    }

    /// Returns the directory of a store.
    pub(super) fn store(&self, which: Which) -> PathBuf {
        self.dir.join(match which {
            Which::Small => "small",
            Which::Large => "large",
        })
    }

    /// Drops a store from the system's memory.
    pub(super) fn drop_from_page_cache(&self, which: Which) -> Outcome<()> {
        drop_from_page_cache(&self.database(which))
    }

    /// Loads a store into the system's memory.
    pub(super) fn load_into_page_cache(&self, which: Which) -> Outcome<()> {
        io::copy(&mut File::open(self.database(which))?, &mut io::sink())?;
        Ok(())
    }

    /// Returns the database file of a store.
    pub(super) fn database(&self, which: Which) -> PathBuf {
        self.store(which).join("cable.db")
    }

    /// Returns the log file of the nodes.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("node.log")
    }

    fn build(&self, program: &Program) -> Outcome<Duration> {
        let file = |name: &str| self.dir.join(name);
        let (entities, hot, bulk) = (file("entities.bin"), file("hot.bin"), file("bulk.bin"));
        generate::write_entities(&entities)?;
        Uniform { seed: 1, numbers: 0..HOT, bytes: HOT_BYTES, newest: true }.write(&hot, hot_tags)?;
        Uniform { seed: 2, numbers: HOT..self.articles, bytes: BULK_BYTES, newest: false }
            .write(&bulk, third_tag)?;
        self.import(program, Which::Small, &[&entities, &hot])?;
        let start = Instant::now();
        self.import(program, Which::Large, &[&entities, &bulk, &hot])?;
        let elapsed = start.elapsed();
        [entities, hot, bulk].iter().try_for_each(fs::remove_file)?;
        Ok(elapsed)
    }

    fn import(&self, program: &Program, which: Which, files: &[&PathBuf]) -> Outcome<()> {
        let node = program.serve(&self.store(which), &self.log())?;
        for file in files {
            let (elapsed, _) = program.import(file, &node.endpoint)?;
            eprintln!("{which:?}: {} imported in {:.1} s", file.display(), elapsed.as_secs_f64());
        }
        node.stop().map(drop)
    }
}

fn hot_tags(number: u64) -> Vec<&'static str> {
    let mut tags = third_tag(number);
    tags.push(HOT_TAG);
    tags
}

fn third_tag(number: u64) -> Vec<&'static str> {
    if number.is_multiple_of(THIRD) { vec![THIRD_TAG] } else { Vec::new() }
}

/// Returns the id of a hot article. Numbers beyond the last start again from the first.
pub(super) fn hot(number: u64) -> String {
    article_id(number % HOT)
}

/// A sequence of all other articles, each once, in scattered order. It uses a step that shares no factor with their
/// number and so reaches all of them.
#[derive(Debug)]
pub(super) struct Cold {
    count: u64,
    position: u64,
    step: u64,
}

impl Cold {
    pub(super) fn new(articles: u64) -> Cold {
        let count = articles - HOT;
        // A step near the golden section of the number separates neighbours widely.
        let golden = (count as f64 * 0.618) as u64;
        let step = (golden..).find(|step| gcd(*step, count) == 1).unwrap_or(1);
        Cold { count, position: 0, step }
    }

    /// Returns the next one.
    pub(super) fn next(&mut self) -> String {
        self.position = (self.position + self.step) % self.count;
        article_id(HOT + self.position)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn cold_articles_repeat_only_after_all_were_returned() {
        for articles in [1_001, 1_002, 2_000, 9_973] {
            let mut cold = Cold::new(articles);
            let mut seen: HashSet<String> = HashSet::new();
            assert!((HOT..articles).all(|_| seen.insert(cold.next())), "{articles}");
            assert!(!seen.contains(&hot(HOT - 1)) && !seen.insert(cold.next()));
        }
    }

    #[test]
    fn hot_articles_repeat_after_the_last() {
        assert_eq!((hot(0), hot(HOT)), (article_id(0), article_id(0)));
        assert_ne!(hot(HOT - 1), hot(HOT));
    }
}
