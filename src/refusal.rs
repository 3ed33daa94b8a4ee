//! Refusals: why a call fails, in the caller's terms, and the field at fault if there is one. `rpc` converts a refusal
//! into a Status; the response to a batch or an import holds that of an item as its error.

use std::time::Duration;

use crate::{
    auth::Role,
    health::{Condition, Health},
    model::{LogId, Name, Revision, limit::Limit},
    store::{self, Damage, Tombstone},
    wire::v1::RemovalReason,
};

mod error_parts;

/// The domain of every ErrorInfo.
pub(crate) const DOMAIN: &str = "cable.v1";

/// The reason why a call, or one item of it, fails.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Refusal {
    /// A field is invalid: fix it.
    #[error("{field}: {problem}")]
    Field { field: String, problem: String },
    /// A value is above its limit: send less.
    #[error("{field}: {value} exceeds the maximum of {} ({})", limit.maximum, limit.name)]
    Limit { field: String, limit: &'static Limit, value: u64 },
    /// The page token is not valid for this request: restart the listing.
    #[error("page_token: {0}")]
    PageToken(&'static str),
    /// The request_id belongs to a different request: use a new one.
    #[error("request_id: already used by a different request")]
    RequestIdReused,
    /// The name does not exist.
    #[error("{0}: not found")]
    NotFound(Name),
    /// No article has the path.
    #[error("path: not found")]
    PathNotFound,
    /// The name was removed.
    #[error("{name}: {}", describe_removal(.tombstone))]
    Gone { name: Name, tombstone: Box<Tombstone> },
    /// The name exists, but the precondition requires that it is absent.
    #[error("{name}: already exists")]
    Exists { name: Name, etag: String },
    /// The name was killed: set `allow_killed` to publish it again.
    #[error("{name}: killed; set allow_killed to publish it again")]
    Killed { name: Name, time: i64 },
    /// The name holds a version of another import source: import under other names, or insist.
    #[error("{name}: {}", describe_conflict(.holder))]
    SourceConflict { name: Name, holder: String },
    /// Another article has the path: choose another one.
    #[error("{field}: path {path} is already used by {owner}")]
    PathTaken { field: String, path: String, owner: Name },
    /// The etag is not the current one: read the current version, then decide again.
    #[error("{name}: {}", describe_mismatch(.current.as_deref()))]
    EtagMismatch { name: Name, current: Option<String> },
    /// The position or revision belongs to another history: drop all state that was derived from that history.
    #[error("{differs}; {remedy}")]
    LogChanged { log_id: LogId, differs: Differs, remedy: &'static str },
    /// The node has not reached the revision: retry later, or use another node.
    #[error("not caught up: requested revision {requested}, this node is at revision {reached}")]
    NotCaughtUp { requested: Revision, reached: Revision },
    /// The history after the position was compacted: start with a snapshot.
    #[error("{field}: compacted: oldest available revision is {oldest}")]
    Compacted { field: &'static str, oldest: Revision, head: Revision },
    /// Too many feeds are open: close one, retry later, or use another node.
    #[error("{scope} feed limit reached ({maximum})")]
    TooManyFeeds { scope: &'static str, maximum: usize },
    /// The caller has no such consumer.
    #[error("consumer: {0}: not found")]
    ConsumerNotFound(String),
    /// There are too many consumers: delete one that is not used.
    #[error("{scope} consumer limit reached ({maximum}); delete one that is not used")]
    TooManyConsumers { scope: &'static str, maximum: usize },
    /// The node makes another backup: retry later.
    #[error("another backup is running; a node makes {maximum} at a time")]
    BackupRunning { maximum: usize },
    /// The backup was given up: start another one.
    #[error("backup interrupted: {0}; start another one")]
    BackupInterrupted(&'static str),
    /// Other writers changed the same names at each attempt.
    #[error("write conflict: gave up after {attempts} attempts")]
    WriteConflict { attempts: usize },
    /// The node is overloaded: read the responses that were sent, retry later, or use another node.
    #[error("{0}")]
    Overloaded(&'static str),
    /// The caller is not known: send a valid token, or a client certificate that is mapped.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// The caller may not do this: use a credential with the role.
    #[error("{caller} has the role {has}; {action} requires the role {required}")]
    Forbidden { caller: String, has: Role, required: Role, action: String },
    /// The caller sees only the articles that match the filter of its credential: use a credential without one.
    #[error("the credential of {caller} is limited by a filter; {action}")]
    Limited { caller: String, action: &'static str },
    /// The caller calls too often: wait.
    #[error("too many {what}: at most {maximum}")]
    RateLimited { what: &'static str, maximum: String, retry_after: Duration },
    /// The node has another address for such calls.
    #[error("{0} is not served at this address: use the address for publishing (`publish.listen`)")]
    NotServedHere(String),
    /// The node is shutting down: use another node.
    #[error("this node is shutting down")]
    Draining,
    /// A part of the node has failed: use another node.
    #[error("a part of this node has failed; the node is shutting down")]
    NodeFailed,
    /// The data that was sent is incomplete: restore a backup.
    #[error("{}", describe_damage(.0))]
    Incomplete(Damage),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An internal error of the server.
    #[error("{0}")]
    Internal(&'static str),
}

fn describe_damage(damage: &Damage) -> String {
    let first = damage.names.first().map(|name| format!(", such as {name}")).unwrap_or_default();
    match damage {
        Damage { database: true, .. } => {
            "incomplete: the database is damaged; restore a backup, or create a new store from the readable records \
             with `cable rebuild`"
                .to_owned()
        }
        Damage { count, .. } => {
            format!("incomplete: {count} records cannot be read{first}; put them again, remove them, or restore a backup")
        }
    }
}

/// The difference between the history that a caller names and the one that is served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Differs {
    #[error("log_id mismatch: this is log {served}, not {requested} (restored from a backup?)")]
    Log { requested: LogId, served: LogId },
    #[error("chain mismatch at revision {0} (restored from a backup?)")]
    Revision(Revision),
}

impl Refusal {
    /// Refuses a log other than the one that is served. `remedy` is advice for the caller.
    pub(crate) fn check_log(
        requested: Option<LogId>,
        served: LogId,
        remedy: &'static str,
    ) -> Result<(), Refusal> {
        match requested.filter(|requested| *requested != served) {
            None => Ok(()),
            Some(requested) => {
                let differs = Differs::Log { requested, served };
                Err(Refusal::LogChanged { log_id: served, differs, remedy })
            }
        }
    }
}

fn describe_conflict(source: &str) -> String {
    match source {
        "" => "holds another article of the same system: import with another `--prefix`, or, if it is the same content, \
               with the `--source` of its import"
            .to_owned(),
        source => format!(
            "holds a version from {source}: if it is the same content, import with `--source '{source}'`, otherwise \
             with another `--prefix`"
        ),
    }
}

fn describe_mismatch(current: Option<&str>) -> String {
    match current {
        Some(etag) => format!("etag mismatch: current etag is {etag}"),
        None => "etag mismatch: does not exist".to_owned(),
    }
}

fn describe_removal(tombstone: &Tombstone) -> String {
    match &tombstone.moved_to {
        Some(target) => format!("moved to {target}"),
        None => format!("removed ({})", reason_name(tombstone.reason)),
    }
}

/// Returns the schema's name of a reason, without its prefix.
pub(crate) fn reason_name(reason: RemovalReason) -> &'static str {
    reason.as_str_name().trim_start_matches("REMOVAL_REASON_")
}

impl Refusal {
    /// Returns the refusal with which a node that shuts down ends a stream.
    pub(crate) fn of_shutdown(health: &Health) -> Refusal {
        match health.cause(Condition::TaskFailed) {
            Some(_) => Refusal::NodeFailed,
            None => Refusal::Draining,
        }
    }

    pub(crate) fn field(field: impl Into<String>, problem: impl Into<String>) -> Refusal {
        Refusal::Field { field: field.into(), problem: problem.into() }
    }

    /// Returns the refusal with its field as a field of `parent`. A field that starts with `[` is an element of
    /// `parent`.
    pub(crate) fn within(mut self, parent: &str) -> Refusal {
        match &mut self {
            _ if parent.is_empty() => {}
            Refusal::Field { field, .. }
            | Refusal::Limit { field, .. }
            | Refusal::PathTaken { field, .. } => {
                *field = match field.as_bytes().first() {
                    None => parent.to_owned(),
                    Some(b'[') => format!("{parent}{field}"),
                    Some(_) => format!("{parent}.{field}"),
                };
            }
            _ => {}
        }
        self
    }
}

/// Refuses a value above its limit.
pub(crate) fn at_most(limit: &'static Limit, value: usize, field: impl Into<String>) -> Result<(), Refusal> {
    let value = value as u64;
    if value <= limit.maximum {
        return Ok(());
    }
    Err(Refusal::Limit { field: field.into(), limit, value })
}

/// Returns the refusal of a message that cannot be decoded. prost lists the messages and fields around the error, the
/// innermost first.
pub(crate) fn decode_error(error: &prost::DecodeError) -> Refusal {
    let text = error.to_string();
    let mut rest = text.trim_start_matches("failed to decode Protobuf message: ");
    let mut path = Vec::new();
    while let Some((location, after)) = rest.split_once(": ")
        && let Some((_, field)) = location.split_once('.')
        && !location.contains(' ')
    {
        path.push(field);
        rest = after;
    }
    path.reverse();
    Refusal::field(path.join("."), rest)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::wire::{fields, v1};

    #[test]
    fn decode_errors_name_the_full_field_path() {
        let mut filter = Vec::new();
        fields::put_bytes(&mut filter, 1, b"\xff");
        let mut request = Vec::new();
        fields::put_bytes(&mut request, 1, &filter);
        let refusal = decode_error(&v1::ListArticlesRequest::decode(&request[..]).unwrap_err());
        assert!(matches!(refusal, Refusal::Field { field, .. } if field == "filter.all_tags"));
    }

    #[test]
    fn an_empty_parent_leaves_the_field_unchanged() {
        let refusal = Refusal::field("headline", "required").within("");
        assert!(matches!(refusal, Refusal::Field { field, .. } if field == "headline"));
    }
}
