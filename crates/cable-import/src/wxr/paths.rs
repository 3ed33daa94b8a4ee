//! The paths of posts: the path of the link, or one by slug where the link is by number; and the former paths. No two
//! posts of an export get the same path. A link to another site is no path, but the canonical URL.

use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{
    Element,
    site::{Site, host_of, is_same_site},
};
use crate::piece::web_url;
use cable_proto::{limit, path};

use super::languages::LANGUAGE;

/// Parameters that select a post.
const SELECTING: [&str; 8] =
    ["p", "page_id", "post", "post_id", "attachment_id", "name", "pagename", "post_type"];

/// The hash of a path in normal form.
type Key = u128;

fn key(path: &str) -> Key {
    xxh3_128(path::normalise(path).as_bytes())
}

/// A collector of the paths that the posts of an export claim.
#[derive(Debug, Default)]
pub(super) struct Collector {
    /// The query of each path of a link, or none if several queries occur.
    queries: HashMap<Key, Option<u64>>,
    /// The number of links by host, of the hosts that are not the site's.
    hosts: HashMap<String, u64>,
    claims: Vec<Claim>,
}

#[derive(Debug)]
struct Claim {
    post: u64,
    is_scheduled: bool,
    link: Option<Key>,
    by_slug: Option<Key>,
    has_query: bool,
    is_by_number: bool,
    /// The host, if it is not the site's.
    host: Option<String>,
}

impl Collector {
    pub(super) fn add(&mut self, post: u64, is_scheduled: bool, item: &Element, site: &Site) {
        let link = Link::of(item);
        let host = link.other_host(item, site).map(str::to_owned);
        if let Some(host) = &host {
            *self.hosts.entry(host.clone()).or_default() += 1;
        }
        let link_key = link.path().map(|path| key(&path));
        if let Some(key) = link_key {
            let query = Some(xxh3_64(link.query.as_bytes()));
            let known = self.queries.entry(key).or_insert(query);
            if *known != query {
                *known = None;
            }
        }
        self.claims.push(Claim {
            post,
            is_scheduled,
            link: link_key,
            by_slug: link.path_by_slug(item).map(|path| key(&path)),
            has_query: !link.query.is_empty(),
            is_by_number: link.is_by_number(site.directory()),
            host,
        });
    }

    /// Decides which post gets which path: the first in the file, and a visible post before a scheduled one.
    pub(super) fn finish(self) -> Paths {
        let shared: HashSet<Key> =
            self.queries.iter().filter(|(_, query)| query.is_none()).map(|(key, _)| *key).collect();
        let own_hosts = self.own_hosts();
        let is_own = |claim: &&Claim| claim.host.as_ref().is_none_or(|host| own_hosts.contains(host));
        let mut owners = HashMap::new();
        for is_scheduled in [false, true] {
            let claims = self.claims.iter().filter(|claim| claim.is_scheduled == is_scheduled);
            for claim in claims.filter(is_own) {
                let is_shared = claim.link.is_some_and(|link| shared.contains(&link));
                let is_by_slug = claim.is_by_number || (claim.has_query && is_shared);
                if let Some(key) = if is_by_slug { claim.by_slug } else { claim.link } {
                    owners.entry(key).or_insert(claim.post);
                }
            }
        }
        Paths { shared, owners, own_hosts, aliases: HashMap::new() }
    }

    /// Returns the hosts that are the site's although the channel states another one, as in an export from a copy of the
    /// site: those that most links have.
    fn own_hosts(&self) -> HashSet<String> {
        let of_site = self.claims.len() as u64 - self.hosts.values().sum::<u64>();
        let most = self.hosts.values().copied().max().unwrap_or_default();
        let own = self.hosts.iter().filter(|(_, count)| **count == most && most > of_site);
        own.map(|(host, _)| host.clone()).collect()
    }
}

/// The paths of an export and the posts that own them.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// The paths of links that differ by their query.
    shared: HashSet<Key>,
    owners: HashMap<Key, u64>,
    /// The hosts of the site that the channel does not state.
    own_hosts: HashSet<String>,
    aliases: HashMap<Key, u64>,
}

/// The path and the former paths of one post.
#[derive(Debug, Default)]
pub(super) struct OfPost {
    pub(super) path: String,
    pub(super) alias_paths: Vec<String>,
    /// The link, if it leads to another site.
    pub(super) canonical_url: String,
}

impl Paths {
    /// Returns the paths that the post gets. Notes name those that it does not get.
    pub(super) fn of_post(
        &mut self,
        post: u64,
        item: &Element,
        site: &Site,
        notes: &mut Vec<String>,
    ) -> OfPost {
        let link = Link::of(item);
        if link.other_host(item, site).is_some_and(|host| !self.own_hosts.contains(host)) {
            notes
                .push("the link leads to another site: it is the canonical URL, and there is no path".into());
            let canonical_url = web_url(item.get("link")).unwrap_or_default().to_owned();
            return OfPost { canonical_url, ..OfPost::default() };
        }
        let path = link.path();
        let is_shared = path.as_deref().is_some_and(|path| self.shared.contains(&key(path)));
        let is_by_slug = link.is_by_number(site.directory()) || (!link.query.is_empty() && is_shared);
        let Some(path) = (if is_by_slug { link.path_by_slug(item) } else { path }) else {
            notes.push("no path".into());
            return OfPost::default();
        };
        let alias_paths = self.aliases(post, &path, item, notes);
        let mut paths = OfPost { path, alias_paths, canonical_url: String::new() };
        if let Some(owner) = self.owners.get(&key(&paths.path)).filter(|owner| **owner != post) {
            notes.push(format!("without its path: {} is the path of post {owner}", paths.path));
            paths.path.clear();
        }
        paths
    }

    fn aliases(&mut self, post: u64, path: &str, item: &Element, notes: &mut Vec<String>) -> Vec<String> {
        let mut aliases: Vec<String> = Vec::new();
        let mut excess = 0;
        for alias in former_paths(path, item) {
            let key = key(&alias);
            let owner = self.owners.get(&key).or_else(|| self.aliases.get(&key)).copied();
            if let Some(owner) = owner.filter(|owner| *owner != post) {
                notes.push(format!("without the former path {alias}: it is one of post {owner}"));
            } else if owner.is_none() && aliases.len() as u64 == limit::ALIAS_PATHS.maximum {
                excess += 1;
            } else if owner.is_none() && path::is_valid(&alias) {
                self.aliases.insert(key, post);
                aliases.push(alias);
            }
        }
        if excess > 0 {
            notes.push(format!("{excess} former paths above the limit omitted"));
        }
        aliases
    }
}

/// The link of a post.
struct Link<'a> {
    /// The host without `www.`; empty if the link has none.
    host: &'a str,
    /// The path with its slash, as the link has it; empty if the link has none.
    path: &'a str,
    query: &'a str,
}

impl<'a> Link<'a> {
    fn of(item: &'a Element) -> Self {
        let link = item.get("link");
        let after_scheme = link.split_once("://").map_or(link, |(_, rest)| rest);
        let rest = after_scheme.find(['/', '?', '#']).map_or("", |at| &after_scheme[at..]);
        let rest = rest.split('#').next().unwrap_or_default();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Link { host: host_of(link), path, query }
    }

    /// Returns the path of the link, if it can be one.
    fn path(&self) -> Option<String> {
        let path = format!("/{}", self.path.trim_start_matches('/'));
        let is_given = !self.path.is_empty() || !self.query.is_empty();
        (is_given && path::is_valid(&path)).then_some(path)
    }

    /// Returns the host, unless it is one of the site: stated by the channel, or by the GUID of the post. A site with
    /// several languages can have a host for each.
    fn other_host(&self, item: &Element, site: &Site) -> Option<&'a str> {
        let has_language = || item.all("category").any(|field| field.domain.as_deref() == Some(LANGUAGE));
        let is_own = self.host.is_empty()
            || site.has_host(self.host)
            || is_same_site(host_of(item.get("guid")), self.host)
            || has_language();
        (!is_own).then_some(self.host)
    }

    /// Returns whether the query selects the post, not the path.
    fn is_by_number(&self, directory: &str) -> bool {
        let path = self.path.trim_end_matches('/');
        let mut parameters = self.query.split('&').map(|p| p.split('=').next().unwrap_or_default());
        let selects = parameters.any(|name| SELECTING.contains(&name));
        let is_front = path.is_empty() || path == directory || path.ends_with("/index.php");
        !self.query.is_empty() && (selects || is_front)
    }

    /// Returns a path of the slug, in the directory of the link.
    fn path_by_slug(&self, item: &Element) -> Option<String> {
        let slug = item.get("wp:post_name");
        let directory = self.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let path = format!("/{}/{slug}/", directory.trim_start_matches('/'));
        let path = path.replace("//", "/");
        (!slug.is_empty() && path::is_valid(&path)).then_some(path)
    }
}

/// Returns the paths that the post had: those with an earlier slug or the directories of an earlier date.
fn former_paths(path: &str, item: &Element) -> Vec<String> {
    let path = path::normalise(path);
    let slug = normal_segment(item.get("wp:post_name"));
    let date = item.get("wp:post_date");
    let mut with_slugs = vec![path.clone()];
    with_slugs.extend(item.all_meta("_wp_old_slug").filter_map(|old| with_slug(&path, &slug, old)));
    let mut all: Vec<String> = Vec::new();
    for former in &with_slugs {
        let with_dates = item.all_meta("_wp_old_date").filter_map(|old| with_date(former, date, old));
        for candidate in std::iter::once(former.clone()).chain(with_dates) {
            if candidate != path && all.len() <= MAX_FORMER_PATHS && !all.contains(&candidate) {
                all.push(candidate);
            }
        }
    }
    all
}

/// The maximum number of former paths that are considered. Each is compared with those before it.
const MAX_FORMER_PATHS: usize = 2 * limit::ALIAS_PATHS.maximum as usize;

fn normal_segment(slug: &str) -> String {
    path::normalise(&format!("/{slug}"))[1..].to_owned()
}

/// Returns the path with an earlier slug, if the slug is a part of its last segment.
fn with_slug(path: &str, slug: &str, old: &str) -> Option<String> {
    let old = normal_segment(old);
    let at = path.rfind(slug).filter(|_| !slug.is_empty() && !old.contains('/'))?;
    let (before, after) = (&path[..at], &path[at + slug.len()..]);
    let is_bounded = !before.ends_with(|c: char| c.is_alphanumeric())
        && !after.starts_with(|c: char| c.is_alphanumeric())
        && !after.trim_end_matches('/').contains('/');
    is_bounded.then(|| format!("{before}{old}{after}"))
}

/// Returns the path with the directories of an earlier date: `/2024/03/08/`, `/2024/03/` or `/2024/`.
fn with_date(path: &str, date: &str, old: &str) -> Option<String> {
    let parts = |date: &str| {
        let parts = date.get(..10)?.split('-').map(str::to_owned);
        let is_number = |part: &String| part.bytes().all(|byte| byte.is_ascii_digit());
        <[String; 3]>::try_from(parts.filter(is_number).collect::<Vec<_>>()).ok()
    };
    let (now, old) = (parts(date)?, parts(old)?);
    (1..=3).rev().find_map(|count| {
        let directories = |date: &[String; 3]| format!("/{}/", date[..count].join("/"));
        let (now, old) = (directories(&now), directories(&old));
        path.contains(&now).then(|| path.replacen(&now, &old, 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_slugs_replace_the_slug_only() {
        let with = |path: &str, slug: &str| with_slug(path, slug, "old");
        assert_eq!(with("/2024/03/storm/", "storm").as_deref(), Some("/2024/03/old/"));
        assert_eq!(with("/storm/storm.html", "storm").as_deref(), Some("/storm/old.html"));
        assert_eq!(with("/12-storm", "storm").as_deref(), Some("/12-old"));
        assert_eq!(with("/storms/", "storm"), None);
        assert_eq!(with("/storm/12/", "storm"), None);
        assert_eq!(with("/archives/12", "storm"), None);
        assert_eq!(with("/archives/12", ""), None);
    }

    #[test]
    fn former_dates_replace_the_directories_of_the_date() {
        let with = |path: &str| with_date(path, "2024-03-08 08:00:00", "2023-12-01");
        assert_eq!(with("/2024/03/08/storm/").as_deref(), Some("/2023/12/01/storm/"));
        assert_eq!(with("/2024/03/storm/").as_deref(), Some("/2023/12/storm/"));
        assert_eq!(with("/news/2024/storm/").as_deref(), Some("/news/2023/storm/"));
        assert_eq!(with("/storm/"), None);
        assert_eq!(with_date("/2024/03/storm/", "", "2023-12-01"), None);
        assert_eq!(with_date("/2024/03/storm/", "2024-03-08", "2023-1é-01"), None);
    }
}
