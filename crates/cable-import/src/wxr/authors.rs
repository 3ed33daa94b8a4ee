//! Authors: the users that an export lists, the guest authors of the plug-in Co-Authors Plus, and those that only a post
//! names. None of them gets an e-mail address, neither as its id nor as its name.

use std::collections::HashMap;

use cable_body::html;
use cable_proto::{
    limit,
    v1::{self, record::Record as Kind},
};

use super::{
    Element, Item, ItemOutcome, Records,
    addresses::{has_address, without_addresses},
    attachments::Index,
    bounded, label, record,
    site::Site,
};
use crate::ids;

/// The post type of guest authors.
pub(super) const GUEST: &str = "guest-author";

/// The authors of an export.
#[derive(Debug, Default)]
pub(super) struct Authors {
    /// The listed users by login.
    users: HashMap<String, Person>,
    /// The logins of the listed users by the slug that WordPress derives from them.
    logins: HashMap<String, String>,
    /// The display names of the guest authors by slug. Those of items replace those of terms.
    guests: HashMap<String, String>,
    records: Records,
    /// The display names of the authors by id.
    display_names: HashMap<String, String>,
}

#[derive(Debug, Clone)]
struct Person {
    id: String,
    display_name: String,
}

impl Authors {
    /// Collects the name of a guest author from its item.
    pub(super) fn add_guest_item(&mut self, item: &Element) {
        let display_name = guest_name(item);
        if !display_name.is_empty() {
            self.guests.insert(guest_slug(item).to_owned(), display_name);
        }
    }

    /// Collects the name of a guest author from its term.
    pub(super) fn add_guest_term(&mut self, slug: &str, name: &str, description: &str) {
        let display_name = name_of_term(name, description);
        if !display_name.is_empty() {
            self.guests.entry(without_prefix(slug).to_owned()).or_insert(display_name);
        }
    }

    /// Returns the item of a listed user.
    pub(super) fn user_item(&mut self, site: &Site, element: &Element) -> Item {
        let number = element.get("wp:author_id");
        let login = element.get("wp:author_login");
        let mut notes = Vec::from_iter(element.note());
        let person = user(site, element);
        let name = person.as_ref().map_or("", |person| person.display_name.as_str());
        let label = label("author", number, name);
        let outcome = match (&element.damage, person) {
            (Some(damage), _) => ItemOutcome::Failed(damage.clone()),
            (None, None) => {
                ItemOutcome::Failed("no login, number or name, apart from an e-mail address".into())
            }
            (None, Some(person)) => {
                let mut author = self.author(&person.id, &person.display_name, &mut notes);
                if !number.is_empty() {
                    author.alt_ids.extend([site.author_id(number)]);
                }
                self.logins.entry(nicename(login)).or_insert_with(|| login.to_owned());
                self.users.entry(login.to_owned()).or_insert(person);
                self.records.item(record(Kind::Author(author)), notes)
            }
        };
        Item::new(label, "author", outcome)
    }

    /// Returns the outcome of a guest author's item.
    pub(super) fn guest_item(&mut self, site: &Site, index: &Index, item: &Element) -> ItemOutcome {
        let mut notes = Vec::from_iter(item.note());
        let display_name = guest_name(item);
        let id =
            guest_id(site, guest_slug(item), item.meta("cap-user_login").unwrap_or_default(), &display_name);
        if id.is_empty() || display_name.is_empty() {
            return ItemOutcome::Failed("no slug or no name, apart from an e-mail address".into());
        }
        let mut author = self.author(&id, &display_name, &mut notes);
        let bio = without_addresses(&html::text(item.meta("cap-description").unwrap_or_default()));
        author.bio = bounded(&bio, &limit::BIO, "biography", &mut notes);
        author.image = item.meta("_thumbnail_id").and_then(|id| index.get(id.parse().ok()?)).cloned();
        author.alt_ids.extend([site.author_id(item.get("wp:post_id"))]);
        self.records.item(record(Kind::Author(author)), notes)
    }

    /// Returns the credit of the user who created a post, and a record if the export does not list the user.
    pub(super) fn credit_of_user(
        &mut self,
        site: &Site,
        login: &str,
        notes: &mut Vec<String>,
    ) -> Option<(v1::Credit, Option<v1::Record>)> {
        let person = match self.users.get(login) {
            Some(person) => person.clone(),
            None => {
                let display_name = without_addresses(&html::text(login));
                if display_name.is_empty() {
                    if !login.is_empty() {
                        notes.push("author omitted: known by an e-mail address only".into());
                    }
                    return None;
                }
                let id = site.id(if has_address(login) { &display_name } else { login });
                Person { id, display_name }
            }
        };
        Some(self.credit(&person, notes))
    }

    /// Returns the credit of a guest author, and a record if the export does not list the guest author.
    pub(super) fn credit_of_guest(
        &mut self,
        site: &Site,
        slug: &str,
        name: &str,
        notes: &mut Vec<String>,
    ) -> Option<(v1::Credit, Option<v1::Record>)> {
        let slug = without_prefix(slug);
        if let Some(user) = self.user_of_guest(slug, name).cloned() {
            return Some(self.credit(&user, notes));
        }
        let display_name = self
            .guests
            .get(slug)
            .cloned()
            .or_else(|| Some(without_addresses(&html::text(name))).filter(|name| is_name(name)))
            .unwrap_or_else(|| without_addresses(if has_address(name) { "" } else { slug }));
        let id = guest_id(site, slug, name, &display_name);
        if id.is_empty() || display_name.is_empty() {
            notes.push("author omitted: known by an e-mail address only".into());
            return None;
        }
        Some(self.credit(&Person { id, display_name }, notes))
    }

    /// Returns the user behind a guest author. The plug-in names its term after the login, with a slug derived from it.
    fn user_of_guest(&self, slug: &str, name: &str) -> Option<&Person> {
        let derived = || self.logins.get(slug).and_then(|login| self.users.get(login));
        self.users.get(slug).or_else(|| self.users.get(name)).or_else(derived)
    }

    fn credit(&mut self, person: &Person, notes: &mut Vec<String>) -> (v1::Credit, Option<v1::Record>) {
        let author = self.author(&person.id, &person.display_name, notes);
        let display_name = author.display_name.clone();
        let credit = v1::Credit { author: author.name.clone(), display_name, role: String::new() };
        (credit, self.records.mention(record(Kind::Author(author))))
    }

    /// Returns an author. The first display name of an id counts.
    fn author(&mut self, id: &str, display_name: &str, notes: &mut Vec<String>) -> v1::Author {
        let known = self.display_names.get(id).cloned();
        let display_name =
            known.unwrap_or_else(|| bounded(display_name, &limit::LINE, "display name", notes));
        self.display_names.insert(id.to_owned(), display_name.clone());
        v1::Author { name: format!("authors/{id}"), display_name, ..Default::default() }
    }
}

/// Returns the id and the display name of a listed user. If the login is an address, the id comes from the number, or
/// else from the name.
fn user(site: &Site, element: &Element) -> Option<Person> {
    let get = |name| without_addresses(&html::text(element.get(name)));
    let number = element.get("wp:author_id");
    let raw_login = element.get("wp:author_login");
    let login = if has_address(raw_login) { "" } else { raw_login };
    let full_name = format!("{} {}", get("wp:author_first_name"), get("wp:author_last_name"));
    let names = [get("wp:author_display_name"), full_name.trim().to_owned()];
    let name = names.into_iter().find(|name| !name.is_empty());
    let id = match (login, number, &name) {
        ("", "", None) => return None,
        ("", "", Some(name)) => ids::slug_of_name(name),
        ("", number, _) => format!("wp-user-{number}"),
        (login, ..) => login.to_owned(),
    };
    let display_name = name.unwrap_or_else(|| match login {
        "" => format!("Author {number}"),
        login => html::text(login),
    });
    Some(Person { id: site.id(&id), display_name })
}

/// Returns the slug that WordPress derives from a login: lower case, a hyphen for everything but letters and digits.
fn nicename(login: &str) -> String {
    let is_kept = |c: char| c.is_alphanumeric() || c == '_';
    let words = login.split(|c| !is_kept(c)).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

/// Returns the id of a guest author: the slug, unless WordPress made it from an address.
fn guest_id(site: &Site, slug: &str, login: &str, display_name: &str) -> String {
    let is_of_address = has_address(&html::text(login)) || has_address(slug);
    if is_of_address { site.id(&ids::slug_of_name(display_name)) } else { site.id(slug) }
}

fn guest_slug(item: &Element) -> &str {
    without_prefix(item.get("wp:post_name"))
}

fn without_prefix(slug: &str) -> &str {
    slug.strip_prefix("cap-").unwrap_or(slug)
}

fn guest_name(item: &Element) -> String {
    let meta = |key| item.meta(key).unwrap_or_default();
    let full_name = format!("{} {}", meta("cap-first_name"), meta("cap-last_name"));
    let names = [meta("cap-display_name"), item.get("title"), &full_name];
    let mut names = names.into_iter().map(|name| without_addresses(&html::text(name)));
    names.find(|name| !name.is_empty()).unwrap_or_default()
}

/// Returns the name of a guest author's term. The plug-in names the term after the login. It describes the term by the
/// display name, the first name, the last name, the login, the number and the address.
fn name_of_term(login: &str, description: &str) -> String {
    let name = without_addresses(&html::text(login));
    if is_name(&name) {
        return name;
    }
    let description = html::text(description);
    let Some(at) = description.find(&format!(" {} ", login.trim())).filter(|_| !login.trim().is_empty())
    else {
        return String::new();
    };
    let words: Vec<&str> = description[..at].split_whitespace().collect();
    let (half, rest) = words.split_at(words.len() / 2);
    let words = if half == rest { half } else { &words[..] };
    without_addresses(&words.join(" "))
}

/// Returns whether a text is a name rather than a slug.
fn is_name(text: &str) -> bool {
    text.contains(' ') || text.contains(char::is_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_guest_authors_come_from_their_terms() {
        for (login, description, expected) in [
            ("marta-fenn", "Marta Fenn marta-fenn 900 marta@lantern.example", "Marta Fenn"),
            ("marta-fenn", "Marta Fenn Marta Fenn marta-fenn 900 marta@lantern.example", "Marta Fenn"),
            ("marta", "marta@lantern.example Marta Fenn marta 900", "Marta Fenn"),
            ("Marta Fenn", "", "Marta Fenn"),
            ("marta-fenn", "", ""),
            ("t@lantern.example", "Marta Fenn t@lantern.example 900 t@lantern.example", "Marta Fenn"),
        ] {
            assert_eq!(name_of_term(login, description), expected, "{description}");
        }
    }
}
