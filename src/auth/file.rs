//! The file of credentials, which the command line edits and the node reads again when it changes.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::Arc,
    time::Duration,
};

use prost_types::Timestamp;
use toml::{Table, Value};

use super::{
    Anonymous, Role, Scope, scope_table,
    token::{Token, TokenHash},
};
use crate::{
    clock, files,
    model::number,
    wire::{fields, v1::ArticleFilter},
};

/// The maximum size of the file in bytes, which bounds the work of reading it every time that it changes. It has room
/// for some 10,000 credentials.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The maximum number of valid tokens of one name: the one in use, and the one that replaces it.
const MAX_TOKENS_PER_NAME: usize = 2;

/// The minimum time for which a new credential is valid.
const MIN_LIFETIME: Duration = Duration::from_secs(1);

/// The maximum time for which a new credential is valid, and for which a replaced one remains so: ten years. A longer
/// time is more likely a slip than intended, since a credential may also be without an expiry. Dates of the file have
/// four digits for the year, so a time that is much longer could not be read again.
const MAX_LIFETIME: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);

/// The maximum length of a name in bytes.
const MAX_NAME_BYTES: usize = 128;

/// The maximum length of the name in a certificate, in bytes.
const MAX_SUBJECT_BYTES: usize = 1_024;

/// The keys of an entry.
const KEYS: [&str; 8] = ["id", "name", "role", "filter", "token_sha256", "certificate", "created", "expires"];

const HEADER: &str = "\
# Credentials of a Cable node, edited by `cable token`. The node reads this file again when it changes.
# A token itself is not in it, only its hash.
";

/// A credential in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The id, which is part of the token.
    pub id: String,
    /// The name of the caller. Two tokens may have the same one while the first is replaced by the second.
    pub name: String,
    /// The role of the caller.
    pub role: Role,
    /// The articles that the caller is limited to. `None`: it sees all of them.
    pub scope: Option<Arc<Scope>>,
    /// The time of its creation, in microseconds since 1970 UTC.
    pub created: i64,
    /// The time after which it is no longer accepted, in microseconds since 1970 UTC. `None`: it does not expire.
    pub expires: Option<i64>,
    pub(super) proof: Proof,
}

/// The proof that a caller must present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// A token with this hash.
    Token(TokenHash),
    /// A client certificate with this name, which starts with its kind: `CN:`, `DNS:`, `URI:` or `email:`.
    Certificate(String),
}

impl Entry {
    /// Returns the name in the client certificate that is the credential, `None` if it is a token.
    #[must_use]
    pub fn certificate(&self) -> Option<&str> {
        match &self.proof {
            Proof::Certificate(subject) => Some(subject),
            Proof::Token(_) => None,
        }
    }

    /// Whether it is accepted at a time, in microseconds since 1970 UTC.
    #[must_use]
    pub fn is_valid(&self, now: i64) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// A credential to create.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// The name of the caller.
    pub name: String,
    /// The role of the caller.
    pub role: Role,
    /// The filter of the articles that the caller is limited to. `None`: it sees all of them.
    pub filter: Option<ArticleFilter>,
    /// The time for which it is accepted. `None`: it does not expire.
    pub lifetime: Option<Duration>,
    /// The name in a client certificate, with its kind: `CN:`, `DNS:`, `URI:` or `email:`. `None`: the credential is a
    /// token.
    pub certificate: Option<String>,
}

/// A token that replaces others.
#[derive(Debug)]
pub struct Rotation {
    /// The new token, which cannot be read again.
    pub token: Token,
    /// The ids of the tokens that have ended at once, because a newer one of the name remains valid for the overlap.
    pub ended: Vec<String>,
}

/// The reason why the credentials cannot be used or edited.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The file cannot be read or written.
    #[error("cannot {operation} {path}", path = path.display())]
    Io {
        /// `read` or `write`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not valid.
    #[error("{path}: {problem}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The problem, with the entry that has it.
        problem: String,
    },
    /// The change is not allowed. The text names the reason and the way out.
    #[error("{0}")]
    Refused(String),
}

/// The file of credentials of a node.
#[derive(Debug, Clone)]
pub struct CredentialFile {
    path: PathBuf,
}

impl CredentialFile {
    /// Returns the file with this path. It need not exist yet.
    #[must_use]
    pub fn new(path: PathBuf) -> CredentialFile {
        CredentialFile { path }
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the file was not lost, which would open the node: by a restore, or by mistake. `is_named` states that
    /// `auth.credentials` names it.
    ///
    /// # Errors
    /// The file is missing although a setting names it, or although the node has had credentials.
    pub fn check_not_lost(&self, is_named: bool, anonymous: Anonymous) -> Result<(), CredentialError> {
        if self.path.try_exists().unwrap_or(true) {
            return Ok(());
        }
        if is_named {
            return Err(self.invalid(
                "there is no such file, but `auth.credentials` names it: put it back, create it by `cable token new NAME \
                 --role ROLE`, or remove the setting"
                    .to_owned(),
            ));
        }
        if anonymous != Anonymous::Auto || !self.had_credentials() {
            return Ok(());
        }
        Err(self.invalid(format!(
            "the file is missing, but the node has had credentials: put it back, or create new ones by `cable token new NAME \
             --role ROLE`; to let callers without credentials in, delete {} or set `auth.anonymous`",
            self.uses_path().display()
        )))
    }

    /// Returns whether there are credentials, or have been some.
    pub(super) fn had_credentials(&self) -> bool {
        self.path.exists() || self.uses_path().exists()
    }

    /// Reads the credentials. There are none if the file does not exist.
    ///
    /// # Errors
    /// The file cannot be read, is larger than 4 MiB, or is not valid.
    pub fn read(&self) -> Result<Vec<Entry>, CredentialError> {
        Ok(self.read_if_exists()?.unwrap_or_default())
    }

    /// Reads the credentials. Returns `None` if the file does not exist.
    pub(super) fn read_if_exists(&self) -> Result<Option<Vec<Entry>>, CredentialError> {
        let failed = |source| self.io_error("read", source);
        let file = match files::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if mode & 0o022 != 0 {
            return Err(self.invalid(format!(
                "other users may write to the file (mode {:03o}): run `chmod 600 {}`",
                mode & 0o777,
                self.path.display()
            )));
        }
        let Some(content) = files::read_limited(file, MAX_FILE_BYTES).map_err(failed)? else {
            return Err(self.invalid(format!("the file is larger than {MAX_FILE_BYTES} bytes")));
        };
        let text =
            std::str::from_utf8(&content).map_err(|_| self.invalid("the file is not UTF-8".to_owned()))?;
        parse(text).map(Some).map_err(|problem| self.invalid(problem))
    }

    /// Creates a credential at a time, in microseconds since 1970 UTC. Returns the token, which cannot be read again;
    /// `None` for a client certificate.
    ///
    /// # Errors
    /// The file cannot be read or written, the name has two valid tokens, another role or another filter, the filter is
    /// not valid or not for a reader, or the certificate is mapped already.
    pub fn create(&self, new: NewCredential, now: i64) -> Result<Option<Token>, CredentialError> {
        let _lock = self.lock()?;
        let mut entries = self.read()?;
        check_name(&new.name).map_err(CredentialError::Refused)?;
        check_lifetime(new.lifetime)?;
        let scope = parse_scope(new.role, new.filter.clone()).map_err(CredentialError::Refused)?;
        check_new(&new, scope.as_deref(), &entries, now)?;
        let token = self.random()?;
        let id = token.id().to_owned();
        let (proof, token) = match new.certificate {
            Some(subject) => (Proof::Certificate(subject), None),
            None => (Proof::Token(token.hash()), Some(token)),
        };
        entries.push(Entry {
            id,
            name: new.name,
            role: new.role,
            scope,
            created: now,
            expires: new.lifetime.map(|lifetime| end(now, lifetime)),
            proof,
        });
        self.write(&entries)?;
        Ok(token)
    }

    /// Creates a token with the name, role and filter of an existing one. The newest existing token of the name expires
    /// after `overlap`. An older one, which an earlier rotation has left valid, ends at once: a name has at most two
    /// valid tokens.
    ///
    /// # Errors
    /// The name has no valid token, a time is too short or too long, or the file cannot be read or written.
    pub fn rotate(
        &self,
        name: &str,
        overlap: Duration,
        lifetime: Option<Duration>,
        now: i64,
    ) -> Result<Rotation, CredentialError> {
        let _lock = self.lock()?;
        check_lifetime(lifetime)?;
        check_overlap(overlap)?;
        let mut entries = self.read()?;
        let is_replaced =
            |entry: &Entry| entry.name == name && entry.certificate().is_none() && entry.is_valid(now);
        let newest = entries.iter().filter(|entry| is_replaced(entry)).max_by_key(|entry| entry.created);
        let Some((id, role, scope)) = newest.map(|entry| (entry.id.clone(), entry.role, entry.scope.clone()))
        else {
            let problem = format!("{name} has no valid token; create one with `cable token new`");
            return Err(CredentialError::Refused(problem));
        };
        let mut ended = Vec::new();
        for entry in entries.iter_mut().filter(|entry| is_replaced(entry)) {
            let end = if entry.id == id { end(now, overlap) } else { now };
            entry.expires = Some(entry.expires.map_or(end, |expires| expires.min(end)));
            ended.extend((entry.id != id).then(|| entry.id.clone()));
        }
        let token = self.random()?;
        let expires = lifetime.map(|lifetime| end(now, lifetime));
        let (id, proof) = (token.id().to_owned(), Proof::Token(token.hash()));
        entries.push(Entry { id, name: name.to_owned(), role, scope, created: now, expires, proof });
        self.write(&entries)?;
        Ok(Rotation { token, ended })
    }

    /// Returns the day of the last use of each credential, by its id. A node records it.
    #[must_use]
    pub fn last_uses(&self) -> HashMap<String, String> {
        let text = fs::read_to_string(self.uses_path()).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.map(|(id, day)| (id.to_owned(), day.to_owned())).collect()
    }

    /// Records the day of the last use of each credential. This file may be lost.
    pub(super) fn record_uses(&self, uses: &HashMap<String, String>) -> io::Result<()> {
        let lines: String = uses.iter().map(|(id, day)| format!("{id} {day}\n")).collect();
        fs::write(self.uses_path(), lines)
    }

    fn uses_path(&self) -> PathBuf {
        self.path.with_extension("used")
    }

    fn random(&self) -> Result<Token, CredentialError> {
        Token::random().map_err(|source| self.io_error("create a credential in", source))
    }

    /// Removes the credentials with an id or a name. Returns those that were removed.
    ///
    /// # Errors
    /// There is none, or the file cannot be read or written.
    pub fn revoke(&self, id_or_name: &str) -> Result<Vec<Entry>, CredentialError> {
        let _lock = self.lock()?;
        let (removed, kept): (Vec<_>, Vec<_>) =
            self.read()?.into_iter().partition(|entry| entry.id == id_or_name || entry.name == id_or_name);
        if removed.is_empty() {
            let problem = format!("no credential has the id or name {id_or_name:?}; see `cable token ls`");
            return Err(CredentialError::Refused(problem));
        }
        self.write(&kept)?;
        Ok(removed)
    }

    fn directory(&self) -> &Path {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new("."))
    }

    /// Waits until no other command edits the file. Others wait until the result is dropped.
    fn lock(&self) -> Result<File, CredentialError> {
        let failed = |source| self.io_error("write", source);
        fs::create_dir_all(self.directory()).map_err(failed)?;
        let directory = File::open(self.directory()).map_err(failed)?;
        directory.lock().map_err(failed)?;
        Ok(directory)
    }

    /// Replaces the file atomically, if it can be read again. The new one belongs to the owner of the old one, or of the
    /// directory: the node may run as another user than the command. The file of the last uses is created with it, as the
    /// trace of credentials that are lost.
    fn write(&self, entries: &[Entry]) -> Result<(), CredentialError> {
        let failed = |source| self.io_error("write", source);
        let text = show(entries);
        check_text(&text).map_err(CredentialError::Refused)?;
        let directory = self.directory();
        let owner = fs::metadata(&self.path).or_else(|_| fs::metadata(directory)).map_err(failed)?;
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let _stale = fs::remove_file(&temporary);
        let written = create(&temporary, &text, &owner).and_then(|()| fs::rename(&temporary, &self.path));
        if let Err(error) = written {
            let _incomplete = fs::remove_file(&temporary);
            return Err(failed(error));
        }
        // The credentials are in use already: without the trace, they only are not missed.
        let _traced = files::create_private(&self.uses_path()).and_then(|file| files::give(&file, &owner));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
    }

    fn io_error(&self, operation: &'static str, source: io::Error) -> CredentialError {
        CredentialError::Io { operation, path: self.path.clone(), source }
    }

    fn invalid(&self, problem: String) -> CredentialError {
        CredentialError::Invalid { path: self.path.clone(), problem }
    }
}

/// Creates a file with a text for an owner.
fn create(path: &Path, text: &str, owner: &Metadata) -> io::Result<()> {
    let mut file = files::create_private(path)?;
    files::give(&file, owner)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Returns the end of a span of time that starts now.
fn end(now: i64, span: Duration) -> i64 {
    now.saturating_add(clock::micros(span))
}

/// Checks a new credential against the existing ones.
fn check_new(
    new: &NewCredential,
    scope: Option<&Scope>,
    entries: &[Entry],
    now: i64,
) -> Result<(), CredentialError> {
    let refused = |text: String| Err(CredentialError::Refused(text));
    let name = &new.name;
    let valid = || entries.iter().filter(|entry| entry.is_valid(now));
    if let Some(other) = valid().find(|entry| entry.name == *name && entry.role != new.role) {
        let role = other.role;
        return refused(format!(
            "{name} has the role {role} already: use another name, or revoke {name} first"
        ));
    }
    if valid().any(|entry| entry.name == *name && entry.scope.as_deref() != scope) {
        return refused(format!(
            "{name} has another filter already: use another name, or revoke {name} first"
        ));
    }
    if let Some(subject) = &new.certificate {
        check_subject(subject).map_err(CredentialError::Refused)?;
        return match valid().find(|entry| entry.certificate() == Some(subject)) {
            Some(entry) => refused(format!(
                "certificates of {subject} belong to {}: revoke {} first",
                entry.name, entry.id
            )),
            None => Ok(()),
        };
    }
    let ids: Vec<_> = valid()
        .filter(|entry| entry.name == *name && entry.certificate().is_none())
        .map(|entry| &entry.id[..])
        .collect();
    if ids.len() >= MAX_TOKENS_PER_NAME {
        return refused(format!(
            "{name} has {} valid tokens already: revoke one of {}",
            ids.len(),
            ids.join(", ")
        ));
    }
    Ok(())
}

/// Checks the filter of a credential.
fn parse_scope(role: Role, filter: Option<ArticleFilter>) -> Result<Option<Arc<Scope>>, String> {
    let Some(filter) = filter else { return Ok(None) };
    if role != Role::Reader {
        return Err(format!(
            "a filter is for readers: leave it out, or use the role reader instead of {role}"
        ));
    }
    Ok(Some(Arc::new(Scope::new(filter)?)))
}

/// Checks that a credential can be used at all. One that has expired would still close the node to anonymous callers.
fn check_lifetime(lifetime: Option<Duration>) -> Result<(), CredentialError> {
    let problem = match lifetime {
        Some(lifetime) if lifetime < MIN_LIFETIME => format!("at least {} s", MIN_LIFETIME.as_secs()),
        Some(lifetime) if lifetime > MAX_LIFETIME => format!("at most {} d", days(MAX_LIFETIME)),
        _ => return Ok(()),
    };
    Err(CredentialError::Refused(format!(
        "a credential must be valid for {problem}; leave out the expiry for one that does not expire"
    )))
}

/// Checks the time for which a replaced token remains valid. At 0 it ends at once.
fn check_overlap(overlap: Duration) -> Result<(), CredentialError> {
    if overlap <= MAX_LIFETIME {
        return Ok(());
    }
    let most = days(MAX_LIFETIME);
    Err(CredentialError::Refused(format!("a replaced token may remain valid for at most {most} d")))
}

fn days(time: Duration) -> u64 {
    time.as_secs() / (24 * 60 * 60)
}

/// Checks that the text of a file can be read again. A file that cannot would lock out the commands that edit it, and
/// the next start of the node.
fn check_text(text: &str) -> Result<(), String> {
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!(
            "the credentials would take more than {MAX_FILE_BYTES} bytes: revoke some that have expired"
        ));
    }
    match parse(text) {
        Ok(_) => Ok(()),
        Err(problem) => Err(format!("the credentials could not be read again, and are unchanged: {problem}")),
    }
}

fn check_name(name: &str) -> Result<(), String> {
    // Logs have these names for callers that have none of their own.
    if ["anonymous", "scheduler"].contains(&name) {
        return Err(format!("{name} is no name of a credential: logs use it for others"));
    }
    let is_allowed = |c: char| c.is_alphanumeric() || "-_.@/ ".contains(c);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.trim() != name || !name.chars().all(is_allowed)
    {
        return Err(format!(
            "the name of a credential must be 1 to {MAX_NAME_BYTES} bytes of letters, digits, spaces and -_.@/"
        ));
    }
    Ok(())
}

/// Checks the name in a certificate that identifies a caller.
fn check_subject(subject: &str) -> Result<(), String> {
    let kinds = ["CN:", "DNS:", "URI:", "email:"];
    let name = kinds.iter().find_map(|kind| subject.strip_prefix(kind)).unwrap_or_default();
    if name.is_empty() || subject.len() > MAX_SUBJECT_BYTES || name.chars().any(char::is_control) {
        return Err(format!(
            "the name in a certificate must be CN:, DNS:, URI: or email: and a name, at most {MAX_SUBJECT_BYTES} bytes"
        ));
    }
    Ok(())
}

fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let mut table: Table = text.parse().map_err(|error| syntax_problem(text, &error))?;
    let entries = match table.remove("credential") {
        None => Vec::new(),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err("credentials are written as [[credential]]".to_owned()),
    };
    if let Some(key) = table.keys().next() {
        return Err(format!("unknown key `{key}`: only [[credential]] is known"));
    }
    let parse =
        |(at, entry)| parse_entry(entry).map_err(|problem| format!("credential {}: {problem}", at + 1));
    let entries = entries.into_iter().enumerate().map(parse).collect::<Result<Vec<Entry>, String>>()?;
    let mut ids: Vec<_> = entries.iter().map(|entry| &entry.id).collect();
    ids.sort();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("two credentials have the id {}", pair[0])),
        None => Ok(entries),
    }
}

/// Describes a text that is not TOML, with the line.
fn syntax_problem(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
    format!("line {line}: {}", error.message())
}

fn parse_entry(entry: Value) -> Result<Entry, String> {
    let Value::Table(entry) = entry else { return Err("expected a table".to_owned()) };
    if let Some(key) = entry.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("unknown key `{key}`: expected one of {}", KEYS.join(", ")));
    }
    let text = |key: &str| match entry.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("`{key}` must be text")),
    };
    let required = |key: &str| text(key)?.ok_or_else(|| format!("`{key}` is missing"));
    let time = |key: &str| match entry.get(key) {
        None => Ok(None),
        Some(Value::Datetime(time)) => {
            let zoned = time.offset.and_then(|_| Timestamp::from_str(&time.to_string()).ok());
            let time =
                zoned.ok_or_else(|| format!("`{key}` must be a time with a zone: 2026-01-31T12:00:00Z"))?;
            Ok(Some(time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos / 1_000))))
        }
        Some(_) => Err(format!("`{key}` must be a time: 2026-01-31T12:00:00Z")),
    };
    let proof = match (text("token_sha256")?, text("certificate")?) {
        (Some(hash), None) => Proof::Token(parse_hash(&hash)?),
        (None, Some(subject)) => {
            check_subject(&subject)?;
            Proof::Certificate(subject)
        }
        _ => return Err("exactly one of `token_sha256` and `certificate` is required".to_owned()),
    };
    let name = required("name")?;
    check_name(&name)?;
    let role = required("role")?.parse().map_err(|error| format!("`role`: {error}"))?;
    let filter = entry.get("filter").map(scope_table::read).transpose()?;
    Ok(Entry {
        id: required("id")?,
        name,
        role,
        scope: parse_scope(role, filter).map_err(|problem| format!("`filter`: {problem}"))?,
        created: time("created")?.unwrap_or_default(),
        expires: time("expires")?,
        proof,
    })
}

fn parse_hash(text: &str) -> Result<TokenHash, String> {
    let invalid = || "`token_sha256` must be 64 hexadecimal digits".to_owned();
    TokenHash::try_from(number::hex(text).ok_or_else(invalid)?).map_err(|_| invalid())
}

/// Returns the text of the file.
fn show(entries: &[Entry]) -> String {
    let text = |text: &str| Value::String(text.to_owned()).to_string();
    let mut lines = HEADER.to_owned();
    for entry in entries {
        let Entry { id, name, role, scope, created, expires, proof } = entry;
        lines += &format!("\n[[credential]]\nid = {}\nname = {}\nrole = \"{role}\"\n", text(id), text(name));
        if let Some(scope) = scope {
            lines += &format!("filter = {scope}\n");
        }
        lines += &match proof {
            Proof::Token(hash) => {
                let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("token_sha256 = \"{hex}\"\n")
            }
            Proof::Certificate(subject) => format!("certificate = {}\n", text(subject)),
        };
        lines += &format!("created = {}\n", fields::timestamp(*created));
        lines += &expires.map(|time| format!("expires = {}\n", fields::timestamp(time))).unwrap_or_default();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000_000;
    const HOUR: Duration = Duration::from_secs(3_600);

    fn new(name: &str, role: Role) -> NewCredential {
        NewCredential { name: name.to_owned(), role, filter: None, lifetime: None, certificate: None }
    }

    fn file() -> (tempfile::TempDir, CredentialFile) {
        let dir = tempfile::tempdir().unwrap();
        let file = CredentialFile::new(dir.path().join("data/credentials.toml"));
        (dir, file)
    }

    #[test]
    fn what_is_written_is_read() {
        let (_dir, file) = file();
        assert_eq!(file.read().unwrap(), []);
        let token = file.create(new("render", Role::Reader), NOW).unwrap().unwrap();
        let lifetime = Some(HOUR);
        file.create(NewCredential { lifetime, ..new("Nachtdienst Köln", Role::Editor) }, NOW)
            .unwrap()
            .unwrap();
        let certificate = Some("URI:spiffe://packet.example/cms \"2\"".to_owned());
        let none = file
            .create(NewCredential { certificate: certificate.clone(), ..new("cms", Role::Publisher) }, NOW);
        assert_eq!(none.unwrap(), None);
        let [render, night, cms] = &file.read().unwrap()[..] else { panic!("{:?}", file.read()) };
        assert_eq!((&render.id[..], &render.proof), (token.id(), &Proof::Token(token.hash())));
        assert_eq!((render.created, render.expires), (NOW, None));
        assert_eq!((&night.name[..], night.expires), ("Nachtdienst Köln", Some(NOW + 3_600_000_000)));
        assert!(night.is_valid(NOW) && !night.is_valid(NOW + 3_600_000_000));
        assert_eq!((cms.certificate(), cms.role), (certificate.as_deref(), Role::Publisher));
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(!text.contains(token.expose()), "only the hash is on the disk");
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_name_has_one_role_and_two_valid_tokens() {
        let (_dir, file) = file();
        let brief = NewCredential { lifetime: Some(HOUR), ..new("render", Role::Reader) };
        file.create(brief, NOW).unwrap();
        let second = file.create(new("render", Role::Reader), NOW).unwrap().unwrap();
        let third = file.create(new("render", Role::Reader), NOW).unwrap_err().to_string();
        assert!(third.contains("2 valid tokens") && third.contains(second.id()), "{third}");
        let role = file.create(new("render", Role::Admin), NOW).unwrap_err().to_string();
        assert!(role.contains("has the role reader already"), "{role}");
        file.create(new("render", Role::Reader), NOW + 3_600_000_000).expect("the first one has expired");
        assert_eq!(file.revoke(second.id()).unwrap().len(), 1);
        assert_eq!(file.revoke("render").unwrap().len(), 2);
        assert!(file.revoke("render").unwrap_err().to_string().contains("cable token ls"));
        let mapped =
            NewCredential { certificate: Some("DNS:cms.example".to_owned()), ..new("cms", Role::Editor) };
        file.create(mapped.clone(), NOW).unwrap();
        let again =
            file.create(NewCredential { name: "other".into(), ..mapped }, NOW).unwrap_err().to_string();
        assert!(again.contains("belong to cms"), "{again}");
        let expired = NewCredential { lifetime: Some(Duration::ZERO), ..new("other", Role::Editor) };
        assert!(file.create(expired, NOW).unwrap_err().to_string().contains("at least 1 s"));
        let long = format!("CN:{}", "a".repeat(1_024));
        for subject in ["", "cms.example", "DNS:", "dns:a", "IP:192.0.2.1", "CN:a\u{7}", &long] {
            let other = NewCredential { certificate: Some(subject.to_owned()), ..new("other", Role::Editor) };
            let error = file.create(other, NOW).unwrap_err().to_string();
            assert!(error.contains("CN:, DNS:, URI: or email:"), "{subject}: {error}");
        }
    }

    #[test]
    fn a_rotated_token_remains_valid_for_the_overlap() {
        let (_dir, file) = file();
        assert!(file.rotate("render", HOUR, None, NOW).unwrap_err().to_string().contains("cable token new"));
        let old = file.create(new("render", Role::Editor), NOW).unwrap().unwrap();
        let young = file.rotate("render", HOUR, None, NOW).unwrap().token;
        let [first, second] = &file.read().unwrap()[..] else { panic!() };
        assert_eq!((&first.id[..], first.expires), (old.id(), Some(NOW + 3_600_000_000)));
        assert_eq!((&second.id[..], second.expires, second.role), (young.id(), None, Role::Editor));
        let expired = file.rotate("render", HOUR, Some(Duration::ZERO), NOW).unwrap_err().to_string();
        assert!(expired.contains("at least 1 s"), "{expired}");
        let brief = NewCredential { lifetime: Some(HOUR), ..new("brief", Role::Editor) };
        file.create(brief, NOW).unwrap();
        file.rotate("brief", 2 * HOUR, None, NOW).unwrap();
        let brief = file.read().unwrap().into_iter().find(|entry| entry.name == "brief").unwrap();
        assert_eq!(brief.expires, Some(NOW + 3_600_000_000), "an overlap never extends a token");
    }

    #[test]
    fn each_rotation_leaves_two_valid_tokens() {
        let (_dir, file) = file();
        let mut tokens = vec![file.create(new("render", Role::Editor), NOW).unwrap().unwrap()];
        for turn in 1..4 {
            // Two turns at the same time: the newest is then the one that was written last.
            let now = NOW + i64::from(turn / 2);
            let Rotation { token, ended } = file.rotate("render", HOUR, None, now).unwrap();
            let older = tokens.len().checked_sub(2).map(|at| tokens[at].id().to_owned());
            assert_eq!(ended, older.as_slice());
            tokens.push(token);
            let valid: Vec<_> =
                file.read().unwrap().into_iter().filter(|entry| entry.is_valid(now)).collect();
            let ids: Vec<_> = valid.iter().map(|entry| &entry.id[..]).collect();
            assert_eq!(ids, tokens[tokens.len() - 2..].iter().map(Token::id).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_time_that_could_not_be_read_again_is_refused() {
        let (_dir, file) = file();
        file.create(new("render", Role::Reader), NOW).unwrap();
        let before = fs::read_to_string(file.path()).unwrap();
        for lifetime in [MAX_LIFETIME + Duration::from_millis(1), Duration::MAX] {
            let endless = NewCredential { lifetime: Some(lifetime), ..new("a", Role::Reader) };
            let problems = [
                file.create(endless, NOW).unwrap_err(),
                file.rotate("render", HOUR, Some(lifetime), NOW).unwrap_err(),
                file.rotate("render", lifetime, None, NOW).unwrap_err(),
            ];
            assert!(problems.iter().all(|problem| problem.to_string().contains("at most 3650 d")));
        }
        // Any other cause: what is written is read first.
        let mut entries = file.read().unwrap();
        entries[0].expires = Some(i64::MAX);
        let problem = file.write(&entries).unwrap_err().to_string();
        assert!(problem.contains("could not be read again"), "{problem}");
        let many = vec![entries[0].clone(); MAX_FILE_BYTES as usize / 100];
        assert!(file.write(&many).unwrap_err().to_string().contains("revoke some"));
        assert_eq!(fs::read_to_string(file.path()).unwrap(), before);
        file.rotate("render", MAX_LIFETIME, Some(MAX_LIFETIME), NOW).unwrap();
        assert_eq!(file.read().unwrap().len(), 2);
    }

    #[test]
    fn a_file_that_is_not_valid_is_refused_with_the_entry_at_fault() {
        let (_dir, file) = file();
        file.create(new("render", Role::Reader), NOW).unwrap();
        let good = fs::read_to_string(file.path()).unwrap();
        let with_hash = |hash: &str| {
            let (start, rest) = good.split_once("sha256 = \"").unwrap();
            format!("{start}sha256 = \"{hash}{}", &rest[64..])
        };
        for (text, expected) in [
            ("[[credential]".to_owned(), "credentials.toml"),
            ("tokens = 1".to_owned(), "unknown key `tokens`"),
            ("credential = 1".to_owned(), "[[credential]]"),
            ("credential = [1]".to_owned(), "credential 1: expected a table"),
            (good.replace("role = \"reader\"", "role = \"king\""), "credential 1: `role`: expected reader"),
            (good.replace("name = \"render\"", "name = \"\""), "credential 1: the name"),
            (good.replace("name = \"render\"", "nom = \"render\""), "unknown key `nom`"),
            (good.replace("sha256 = \"", "sha256 = \"0"), "64 hexadecimal digits"),
            (good.replace("sha256 = \"", "sha256 = \"é"), "64 hexadecimal digits"),
            (with_hash(&"+f".repeat(32)), "64 hexadecimal digits"),
            (good.clone() + "certificate = \"a\"\n", "exactly one of"),
            (good.clone() + "expires = 2026-01-31\n", "`expires` must be a time"),
            (good.clone() + "expires = 7\n", "`expires` must be a time"),
            (good.clone() + &good, "two credentials have the id"),
            ("#".repeat(MAX_FILE_BYTES as usize + 1), "larger than"),
        ] {
            fs::write(file.path(), text).unwrap();
            let error = file.read().unwrap_err().to_string();
            assert!(error.contains(expected), "{error} does not contain {expected:?}");
            assert!(file.create(new("a", Role::Reader), NOW).is_err(), "nothing is written over it");
        }
        fs::write(file.path(), good).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(file.read().unwrap_err().to_string().contains("chmod 600"));
    }
}
