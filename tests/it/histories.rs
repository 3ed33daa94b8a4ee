//! Random histories of writes, compared with a small model of a store.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use cable_client::{
    Cable, Change, Error, ErrorKind, ErrorReason, Filter, Order, RawRecord, RemovalReason, Timestamp, v1,
};
use futures_util::{TryStreamExt as _, stream};

use crate::{
    dice::Rng,
    support::{Node, body},
};

const ARTICLES: u64 = 24;
const PATHS: u64 = 14;
const STEPS: usize = 300;

/// The newest version of an article, or none if it was removed.
#[derive(Debug, Clone)]
struct Version {
    revision: i64,
    live: Option<v1::Article>,
    moved_to: String,
    former_paths: BTreeSet<String>,
}

/// A step for one article.
#[derive(Debug, Clone)]
enum Step {
    Put(v1::Article),
    Patch(v1::Article, Vec<&'static str>),
    Remove(String, RemovalReason, String),
}

#[derive(Debug, Clone, Default)]
struct Model {
    head: i64,
    articles: BTreeMap<String, Version>,
    /// The parents of sections.
    sections: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq)]
enum Refusal {
    NotFound,
    PathTaken,
}

impl Step {
    fn name(&self) -> &str {
        match self {
            Step::Put(article) | Step::Patch(article, _) => &article.name,
            Step::Remove(name, ..) => name,
        }
    }
}

impl Model {
    fn live(&self, name: &str) -> Option<&v1::Article> {
        self.articles.get(name).and_then(|version| version.live.as_ref())
    }

    /// Makes steps as one commit, or returns the reason why none is made. A path may pass from one article to another.
    fn apply(&mut self, steps: &[Step]) -> Result<(), Refusal> {
        let mut after = self.clone();
        steps.iter().try_for_each(|step| after.step(step))?;
        let own = |version: &Version| version.live.as_ref().map(|article| article.path.clone());
        let mut paths: Vec<String> = after.articles.values().filter_map(own).collect();
        paths.retain(|path| !path.is_empty());
        let count = paths.len();
        if paths.into_iter().collect::<BTreeSet<_>>().len() < count {
            return Err(Refusal::PathTaken);
        }
        *self = after;
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), Refusal> {
        let before = self.articles.get(step.name()).cloned();
        let was = before.as_ref().and_then(|version| version.live.clone());
        let (live, target) = match step {
            Step::Put(article) => (Some(article.clone()), ""),
            Step::Patch(patch, mask) => {
                (Some(patched(was.clone().ok_or(Refusal::NotFound)?, patch, mask)), "")
            }
            Step::Remove(_, _, target) => {
                was.as_ref().ok_or(Refusal::NotFound)?;
                (None, target.as_str())
            }
        };
        if live.is_some() && live == was {
            return Ok(());
        }
        self.head += 1;
        let mut former_paths = before.map(|version| version.former_paths).unwrap_or_default();
        former_paths.extend(was.map(|article| article.path).filter(|path| !path.is_empty()));
        former_paths.remove(live.as_ref().map_or("", |article| &article.path));
        let version = Version { revision: self.head, live, moved_to: target.to_owned(), former_paths };
        self.articles.insert(step.name().to_owned(), version);
        Ok(())
    }

    /// Returns the live article that has a path.
    fn owner(&self, path: &str) -> Option<String> {
        let has = |version: &Version| version.live.as_ref().is_some_and(|article| article.path == path);
        self.articles.iter().find(|(_, version)| has(version)).map(|(name, _)| name.clone())
    }

    /// Returns the articles that a path may lead to: the live article that has it; else those that list it as an alias;
    /// else live articles that had it; else removed ones that had it. Which of several comes first is tested in
    /// `paths`.
    fn resolve(&self, path: &str) -> Vec<&str> {
        let rank = |version: &Version| match &version.live {
            Some(article) if article.path == path => 3,
            Some(article) if article.alias_paths.iter().any(|alias| alias == path) => 2,
            live if version.former_paths.contains(path) => i32::from(live.is_some()),
            _ => -1,
        };
        let best = self.articles.values().map(rank).max().filter(|rank| *rank >= 0);
        let claims = self.articles.iter().filter(|(_, version)| Some(rank(version)) == best);
        claims.map(|(name, _)| name.as_str()).collect()
    }

    fn below(&self, section: &str, root: &str) -> bool {
        let mut at = section;
        for _ in 0..=self.sections.len() {
            if at == root {
                return true;
            }
            let Some(parent) = self.sections.get(at) else { return false };
            at = parent;
        }
        false
    }

    fn matches(&self, article: &v1::Article, filter: &Filter) -> bool {
        let has = |tag: &String| article.tags.contains(tag);
        let any = |names: &[String], has: &dyn Fn(&String) -> bool| names.is_empty() || names.iter().any(has);
        let credits = article.byline.iter().flat_map(|byline| &byline.credits);
        let authors: Vec<&String> = credits.map(|credit| &credit.author).collect();
        let mut sections = article.additional_sections.iter().chain([&article.section]);
        let belongs = |section: &String| match filter.include_child_sections {
            true => self.below(section, &filter.section),
            false => *section == filter.section,
        };
        let time = article.publish_time.unwrap().seconds;
        filter.all_tags.iter().all(has)
            && any(&filter.any_tags, &has)
            && !filter.excluded_tags.iter().any(has)
            && any(&filter.authors, &|author| authors.contains(&author))
            && (filter.section.is_empty() || sections.any(belongs))
            && (filter.types.is_empty() || filter.types.contains(&article.r#type))
            && (filter.language.is_empty() || filter.language.eq_ignore_ascii_case(&article.language))
            && filter.published_after.is_none_or(|after| time >= after.seconds)
            && filter.published_before.is_none_or(|before| time < before.seconds)
    }

    /// Returns the names and revisions of a listing, in order.
    fn list(&self, filter: &Filter, order: Order) -> Vec<(String, i64)> {
        let live = self.articles.iter().filter_map(|(name, v)| Some((name, v.revision, v.live.as_ref()?)));
        let mut found: Vec<_> = live.filter(|(.., article)| self.matches(article, filter)).collect();
        match order {
            Order::RevisionDesc => found.sort_by_key(|(_, revision, _)| Reverse(*revision)),
            _ => found
                .sort_by_key(|(name, _, article)| Reverse((article.publish_time.unwrap().seconds, *name))),
        }
        found.into_iter().map(|(name, revision, _)| (name.clone(), revision)).collect()
    }
}

fn patched(mut article: v1::Article, patch: &v1::Article, mask: &[&str]) -> v1::Article {
    for field in mask {
        match *field {
            "tags" => article.tags = patch.tags.clone(),
            "section" => article.section = patch.section.clone(),
            "byline" => article.byline = patch.byline.clone(),
            "path" => article.path = patch.path.clone(),
            _ => article.headline = patch.headline.clone(),
        }
    }
    article
}

fn random_names(rng: &mut Rng, prefix: &str, max: u64, of: u64) -> Vec<String> {
    let count = rng.between(0, max);
    let ids: BTreeSet<u64> = (0..count).map(|_| rng.between(1, of)).collect();
    ids.into_iter().map(|n| format!("{prefix}{n}")).collect()
}

fn one_or_none(rng: &mut Rng, prefix: &str, of: u64) -> String {
    if rng.one_in(3) { String::new() } else { format!("{prefix}{}", rng.between(1, of)) }
}

fn random_article(rng: &mut Rng) -> v1::Article {
    let mut article = v1::Article::default();
    article.name = format!("articles/a{}", rng.between(1, ARTICLES));
    article.headline = format!("Storm {}", rng.between(1, 3));
    article.body = Some(body(&"The ferry did not sail. ".repeat(rng.between(1, 5) as usize)));
    article.tags = random_names(rng, "tags/t", 4, 5);
    article.section = one_or_none(rng, "sections/s", 5);
    article.additional_sections = random_names(rng, "sections/s", 2, 5);
    article.path = one_or_none(rng, "/p", PATHS);
    if rng.one_in(4) {
        article.alias_paths = vec![format!("/p{}", rng.between(1, PATHS))];
        article.alias_paths.retain(|alias| *alias != article.path);
    }
    article.language = ["", "en-GB", "EN-gb", "ru"][rng.between(0, 3) as usize].to_owned();
    article.r#type = rng.between(1, 3) as i32;
    article.publish_time = Some(random_time(rng));
    let mut byline = v1::Byline::default();
    for author in random_names(rng, "authors/x", 2, 3) {
        let mut credit = v1::Credit::default();
        credit.author = author;
        byline.credits.push(credit);
    }
    article.byline = (!byline.credits.is_empty()).then_some(byline);
    article
}

/// Returns one of few times, so that the order by id matters too.
fn random_time(rng: &mut Rng) -> Timestamp {
    Timestamp { seconds: 1_700_000_000 + rng.between(0, 6) as i64, nanos: 0 }
}

fn random_step(rng: &mut Rng, model: &Model) -> Step {
    let article = random_article(rng);
    match rng.between(0, 9) {
        0..=4 => Step::Put(article),
        5 => model.live(&article.name).cloned().map_or(Step::Put(article), Step::Put),
        6..=7 => {
            let mask = ["tags", "section", "byline", "path", "headline"];
            let mask: Vec<_> = mask.into_iter().filter(|_| rng.one_in(2)).collect();
            let mask = if mask.is_empty() { vec!["tags"] } else { mask };
            Step::Patch(article, mask)
        }
        _ if rng.one_in(2) => Step::Remove(article.name, RemovalReason::Withdrawn, String::new()),
        _ => Step::Remove(article.name, RemovalReason::Moved, "articles/elsewhere".into()),
    }
}

fn random_filter(rng: &mut Rng) -> Filter {
    let mut filter = Filter::default();
    for _ in 0..rng.between(0, 2) {
        match rng.between(0, 8) {
            0 => filter.all_tags = random_names(rng, "tags/t", 2, 5),
            1 => filter.any_tags = random_names(rng, "tags/t", 3, 5),
            2 => filter.excluded_tags = random_names(rng, "tags/t", 2, 5),
            3 => filter.section = format!("sections/s{}", rng.between(1, 5)),
            4 => {
                filter.section = format!("sections/s{}", rng.between(1, 5));
                filter.include_child_sections = true;
            }
            5 => filter.authors = random_names(rng, "authors/x", 2, 3),
            6 => filter.types = vec![rng.between(1, 3) as i32],
            7 => filter.language = "en-gb".into(),
            _ if rng.one_in(2) => filter.published_after = Some(random_time(rng)),
            _ => filter.published_before = Some(random_time(rng)),
        }
    }
    filter
}

/// Returns the article without the fields that the server sets.
pub(crate) fn stripped(mut article: v1::Article) -> v1::Article {
    article.etag.clear();
    (article.revision, article.state, article.word_count) = (0, 0, 0);
    (article.create_time, article.update_time, article.first_publish_time) = (None, None, None);
    article.former_paths.clear();
    article
}

async fn write(cable: &Cable, step: &Step) -> Result<i64, Error> {
    let written = match step.clone() {
        Step::Put(article) => cable.put(article).await?,
        Step::Patch(article, mask) => cable.patch(article, mask).await?,
        Step::Remove(name, reason, target) if target.is_empty() => cable.remove(name, reason).await?,
        Step::Remove(name, reason, target) => cable.remove(name, reason).moved_to(target).await?,
    };
    Ok(written.revision)
}

fn change(step: Step) -> Change {
    match step {
        Step::Put(article) => Change::put(article),
        Step::Patch(article, mask) => Change::patch(article, mask),
        Step::Remove(name, reason, target) if target.is_empty() => Change::remove(name, reason),
        Step::Remove(name, reason, target) => Change::remove(name, reason).moved_to(target),
    }
}

fn check_outcome(expected: Result<(), Refusal>, error: Option<&Error>, step: &impl std::fmt::Debug) {
    let actual = error.map(|error| match (error.kind(), error.reason()) {
        (ErrorKind::NotFound, _) => Refusal::NotFound,
        (_, Some(ErrorReason::PathTaken)) => Refusal::PathTaken,
        _ => panic!("{step:?}: {error}"),
    });
    assert_eq!(expected.err(), actual, "{step:?}");
}

async fn perform_step(cable: &Cable, model: &mut Model, rng: &mut Rng) {
    match rng.between(0, 9) {
        0 => {
            let mut section = v1::Section::default();
            section.name = format!("sections/s{}", rng.between(1, 5));
            section.display_name = "World".into();
            section.parent = one_or_none(rng, "sections/s", 5);
            // Cycles of sections are not tested here.
            if model.below(&section.parent, &section.name) {
                section.parent.clear();
            }
            model.sections.insert(section.name.clone(), section.parent.clone());
            model.head += i64::from(cable.put(section).await.unwrap().changed);
        }
        1..=2 => {
            let mut steps: Vec<Step> = (0..rng.between(2, 5)).map(|_| random_step(rng, model)).collect();
            steps.sort_by(|a, b| a.name().cmp(b.name()));
            steps.dedup_by(|a, b| a.name() == b.name());
            check_articles(cable, model, &steps).await;
            let outcome = model.apply(&steps);
            let result = cable.commit().changes(steps.iter().cloned().map(change)).await;
            assert_eq!(outcome.is_ok(), result.is_ok(), "{steps:?}: {outcome:?}, {result:?}");
            check_articles(cable, model, &steps).await;
        }
        3 => import(cable, model, rng).await,
        _ => {
            let step = random_step(rng, model);
            check_articles(cable, model, std::slice::from_ref(&step)).await;
            let outcome = model.apply(std::slice::from_ref(&step));
            let result = write(cable, &step).await;
            if let Ok(revision) = result {
                assert_eq!(Some(revision), model.articles.get(step.name()).map(|v| v.revision), "{step:?}");
            }
            check_outcome(outcome, result.as_ref().err(), &step);
            check_articles(cable, model, &[step]).await;
        }
    }
}

/// Imports one chunk, in which a name may occur twice. Each record sees the effect of those before it. An article whose
/// path belongs to another one of the chunk gets it at the end, if the other one has released it.
async fn import(cable: &Cable, model: &mut Model, rng: &mut Rng) {
    let articles: Vec<_> = (0..rng.between(1, 8)).map(|_| random_article(rng)).collect();
    let records: Vec<_> = articles.iter().cloned().map(RawRecord::from).collect();
    let steps: Vec<_> = articles.into_iter().map(Step::Put).collect();
    check_articles(cable, model, &steps).await;
    let acks: Vec<_> = cable.import(stream::iter(records)).overwrite().try_collect().await.unwrap();
    let results: Vec<_> = acks.into_iter().flat_map(|ack| ack.results).collect();
    assert_eq!(results.len(), steps.len());
    let (mut expected, mut waiting) = (Vec::new(), Vec::new());
    for (index, step) in steps.iter().enumerate() {
        let mut outcome = model.apply(std::slice::from_ref(step));
        let mut is_omitted = false;
        if let (Err(Refusal::PathTaken), Step::Put(article)) = (&outcome, step) {
            let owner = model.owner(&article.path);
            let is_newest = steps[index + 1..].iter().all(|later| later.name() != step.name());
            if is_newest && steps.iter().any(|other| Some(other.name()) == owner.as_deref()) {
                waiting.push(index);
            }
            is_omitted = true;
            outcome = model.apply(&[Step::Put(v1::Article { path: String::new(), ..article.clone() })]);
        }
        expected.push((outcome.is_err(), is_omitted));
    }
    for index in waiting {
        expected[index].1 = model.apply(std::slice::from_ref(&steps[index])).is_err();
    }
    for ((step, result), expected) in steps.iter().zip(&results).zip(expected) {
        let found = (result.outcome() == v1::ImportOutcome::Refused, !result.omitted_path.is_empty());
        assert_eq!(found, expected, "{steps:?}: {step:?}, {result:?}");
    }
    // An article that loses its path is written after the others of its chunk.
    for step in &steps {
        if let (Some(version), Ok(found)) =
            (model.articles.get_mut(step.name()), cable.article(step.name()).await)
        {
            version.revision = found.into_inner().revision;
        }
    }
    check_articles(cable, model, &steps).await;
}

/// Checks that each of these articles equals the model's. It is read before and after each write, and no response may
/// be stale.
async fn check_articles(cable: &Cable, model: &Model, steps: &[Step]) {
    for step in steps {
        check_article(model, step.name(), cable.article(step.name()).await.map(|found| found.into_inner()));
    }
}

fn check_article(model: &Model, name: &str, found: Result<v1::Article, Error>) {
    match (model.articles.get(name), found) {
        (Some(Version { live: Some(article), revision, former_paths, .. }), Ok(found)) => {
            assert_eq!(found.revision, *revision, "{name}");
            let served = found.former_paths.iter().map(|former| former.path.clone());
            assert_eq!(served.collect::<BTreeSet<_>>(), *former_paths, "{name}");
            assert_eq!(stripped(found), *article);
        }
        (version, Err(error)) => check_missing(version, name, &error),
        (version, Ok(found)) => panic!("{name}: {found:?} and not {version:?}"),
    }
}

fn check_missing(version: Option<&Version>, name: &str, error: &Error) {
    let (reason, target) = match version {
        None => (ErrorReason::ArticleNotFound, None),
        Some(Version { live: Some(_), .. }) => panic!("{name}: {error}"),
        Some(version) if version.moved_to.is_empty() => (ErrorReason::ArticleGone, None),
        Some(version) => (ErrorReason::ArticleMoved, Some(&version.moved_to)),
    };
    assert_eq!(error.reason(), Some(reason), "{name}");
    assert_eq!(error.metadata().get("moved_to"), target, "{name}");
}

async fn compare(cable: &Cable, model: &Model, rng: &mut Rng) {
    let names: Vec<String> = (1..=ARTICLES).map(|n| format!("articles/a{n}")).collect();
    for item in cable.articles(&names).view(cable_client::View::Full).await.unwrap().items {
        check_article(model, &item.name, item.article);
    }
    for path in (1..=PATHS).map(|n| format!("/p{n}")) {
        let found = cable.resolve(&path).await;
        let names = model.resolve(&path);
        if names.is_empty() {
            assert_eq!(found.unwrap_err().reason(), Some(ErrorReason::ArticleNotFound), "{path}");
            continue;
        }
        let leads_to = |name: &&str| match &found {
            Ok(found) => found.article.name == *name,
            Err(error) => model.articles.get(*name).is_some_and(|version| {
                let target = Some(&version.moved_to).filter(|target| !target.is_empty());
                version.live.is_none() && error.metadata().get("moved_to") == target
            }),
        };
        let name = names.iter().copied().find(leads_to);
        let name = name.unwrap_or_else(|| panic!("{path} leads to one of {names:?}: {found:?}"));
        let redirect = model.live(name).map(|article| article.path.clone()).filter(|own| *own != path);
        if let Ok(found) = &found {
            assert_eq!(found.redirect_path, redirect.filter(|own| !own.is_empty()), "{path}");
        }
        check_article(model, name, found.map(|found| found.into_inner().article));
    }
    for _ in 0..12 {
        let (filter, size) = (random_filter(rng), rng.between(1, 7) as u32);
        for order in [Order::PublishTimeDesc, Order::RevisionDesc] {
            let expected = model.list(&filter, order);
            let list = cable.list(filter.clone()).order(order).page_size(size);
            let listed: Vec<_> = list.items().try_collect().await.unwrap();
            assert_eq!(names_and_revisions(listed), expected, "{filter:?} {order:?} by {size}");
            let mut articles = cable.stream(filter.clone()).order(order).articles();
            let mut streamed = Vec::new();
            while let Some(article) = articles.try_next().await.unwrap() {
                streamed.push(article);
            }
            assert_eq!(names_and_revisions(streamed), expected, "{filter:?} {order:?}");
            assert_eq!(articles.end().unwrap().count, expected.len() as i64);
        }
    }
    let status = cable.status().await.unwrap();
    let live = model.articles.values().filter(|version| version.live.is_some()).count();
    let counts = status.counts.unwrap();
    assert_eq!((counts.articles, counts.sections), (live as i64, model.sections.len() as i64));
    assert_eq!(status.head.unwrap().revision, model.head);
}

fn names_and_revisions(articles: Vec<v1::Article>) -> Vec<(String, i64)> {
    articles.into_iter().map(|article| (article.name, article.revision)).collect()
}

/// Checks that another store that imports this one's whole export has the same content.
async fn check_copy(cable: &Cable, model: &Model) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let other = node.client();
    let records: Vec<RawRecord> = cable.export().records().try_collect().await.unwrap();
    let acks: Vec<_> = other.import(stream::iter(records)).try_collect().await.unwrap();
    let results: Vec<_> = acks.into_iter().flat_map(|ack| ack.results).collect();
    assert!(results.iter().all(|result| result.outcome() == v1::ImportOutcome::Written), "{results:?}");
    let digest = |cable: Cable| async move { cable.status().await.unwrap().content_digest };
    assert_eq!(digest(cable.clone()).await, digest(other.clone()).await);
    for (name, version) in &model.articles {
        match (&version.live, other.article(name).await) {
            (Some(article), Ok(found)) => assert_eq!(stripped(found.into_inner()), *article),
            (None, Err(error)) => check_missing(Some(version), name, &error),
            (live, found) => panic!("{name}: {found:?} and not {live:?}"),
        }
    }
    node.stop().await;
    verify(dir.path());
}

/// Checks that a store's derived data follows from its records.
pub(crate) fn verify(dir: &Path) {
    run(Command::new(env!("CARGO_BIN_EXE_cable")).current_dir(dir).arg("verify").arg("--data").arg(dir));
}

/// Rebuilds a store with the same history, so that followers can resume on it.
pub(crate) fn rebuild(from: &Path, to: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cable"));
    command.current_dir(from).args(["rebuild", "--keep-log-id"]);
    run(command.arg("--from").arg(from).arg("--to").arg(to));
}

fn run(command: &mut Command) {
    let output = command.env_clear().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_writes_read_back_as_a_simple_model_predicts() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed =
        std::env::var("CABLE_SEED").map_or(u64::from(now.subsec_nanos()), |seed| seed.parse().unwrap());
    println!("histories: CABLE_SEED={seed}");
    let mut rng = Rng::new(seed);
    for _ in 0..3 {
        let mut rng = rng.fork();
        let (dir, mut model) = (tempfile::tempdir().unwrap(), Model::default());
        let node = Node::start(dir.path()).await;
        let cable = node.client();
        for step in 1..=STEPS {
            perform_step(&cable, &mut model, &mut rng).await;
            if step % 20 == 0 {
                compare(&cable, &model, &mut rng).await;
            }
        }
        node.stop().await;
        let node = Node::start(dir.path()).await;
        let cable = node.client();
        compare(&cable, &model, &mut rng).await;
        check_copy(&cable, &model).await;
        node.stop().await;
        verify(dir.path());
        let rebuilt = dir.path().join("rebuilt");
        rebuild(dir.path(), &rebuilt);
        verify(&rebuilt);
        let node = Node::start(&rebuilt).await;
        compare(&node.client(), &model, &mut rng).await;
        node.stop().await;
    }
}
