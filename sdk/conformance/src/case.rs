//! The cases as data: their types, and the file that they are read from.

use serde::Deserialize;
use serde_json::Value;

use crate::{gate::Rule, proxy::Mode};

/// The file with all cases.
const CASES: &str = include_str!("../cases.toml");

/// A case: a node, a driver behind a proxy, and steps.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The behaviour that the case shows, as a sentence.
    pub(crate) about: String,
    /// Capabilities of the driver without which the case is skipped.
    pub(crate) needs: Vec<String>,
    /// Settings of the node by their keys.
    #[serde(default)]
    pub(crate) settings: toml::Table,
    /// The endpoints of the driver's client.
    #[serde(default = "through_proxy")]
    pub(crate) endpoints: Vec<Endpoint>,
    /// The deadline of the client's calls.
    #[serde(default = "five_seconds")]
    pub(crate) timeout_ms: u64,
    /// Whether there is a gate between proxy and node.
    #[serde(default)]
    pub(crate) gate: bool,
    /// Whether the node requires tokens, and which the client has.
    #[serde(default)]
    pub(crate) token: TokenKind,
    /// Whether the case takes long while it uses no processor: it is started first.
    #[serde(default)]
    pub(crate) long: bool,
    pub(crate) steps: Vec<Step>,
}

fn through_proxy() -> Vec<Endpoint> {
    vec![Endpoint::Proxy]
}

fn five_seconds() -> u64 {
    5_000
}

/// An address of the driver's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Endpoint {
    Proxy,
    /// A second proxy for the same node, which steps name `other`.
    Other,
    /// A port that nothing listens on.
    Dead,
}

/// The token of the driver's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TokenKind {
    /// The node requires none.
    #[default]
    None,
    /// A token as text.
    Text,
    /// A file.
    File,
    /// The node requires one, and the client has none.
    Missing,
}

/// The conditions of a feed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Filter {
    pub(crate) tags: Vec<String>,
    pub(crate) sections: Vec<String>,
    pub(crate) kinds: Vec<String>,
}

/// The start of a follower.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Start {
    #[default]
    Snapshot,
    Now,
    /// After the newest position of the follower with this id, with its content.
    After(String),
    /// After the position that the JSON contains.
    Raw(Value),
}

/// The expected end of a command.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expect {
    /// Expected values in the last event, by JSON pointer. `null` expects nothing there. Values that start with `$` are
    /// variables.
    pub(crate) values: serde_json::Map<String, Value>,
    /// The codes of which the error has one. Empty: no error is expected.
    pub(crate) codes: Vec<String>,
    /// Whether success is fine too.
    pub(crate) or_success: bool,
    /// The number of items of pages and streams.
    pub(crate) items: Option<usize>,
    /// The number of items at most, where an error ends a stream early.
    pub(crate) at_most: Option<usize>,
    /// Bounds of the time from the command to its end.
    pub(crate) at_least_ms: Option<u64>,
    pub(crate) within_ms: Option<u64>,
    /// Variables to set from the last event, by JSON pointer.
    pub(crate) save: serde_json::Map<String, Value>,
}

/// One step. Steps run one after the other.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Step {
    /// Starts a follower of the driver.
    Follow {
        id: String,
        #[serde(default)]
        filter: Filter,
        #[serde(default)]
        raw_filter: Option<Value>,
        #[serde(default)]
        start: Start,
        #[serde(default)]
        reset: bool,
        #[serde(default)]
        view: Option<String>,
        #[serde(default)]
        body_format: Option<String>,
        /// `memory`, or `file`: a file of the case with the id as its name.
        #[serde(default)]
        store: Option<String>,
        #[serde(default = "one_second")]
        interval_ms: u64,
        /// Whether the SDK is expected to refuse the command.
        #[serde(default)]
        refused: bool,
    },
    /// Starts a mirror of the driver.
    Mirror {
        id: String,
        #[serde(default)]
        filter: Filter,
    },
    /// Waits until a mirror is ready.
    Ready {
        of: String,
    },
    /// Waits until all followers and mirrors have converged, or these, and compares them with the node.
    Converge {
        #[serde(default)]
        of: Vec<String>,
        #[serde(default = "long_wait")]
        within_ms: u64,
    },
    /// Waits for an event of a follower, and checks members of it.
    Await {
        of: String,
        event: String,
        #[serde(default)]
        values: serde_json::Map<String, Value>,
        #[serde(default = "long_wait")]
        within_ms: u64,
    },
    /// Applies what a follower has delivered within a time, and expects no change among it.
    Quiet {
        of: String,
        ms: u64,
    },
    /// Checks counters of a follower.
    Check {
        of: String,
        #[serde(default)]
        resets: Option<Vec<String>>,
        #[serde(default)]
        snapshots: Option<u64>,
        /// The smallest number of checkpoints.
        #[serde(default)]
        checkpoints: Option<u64>,
        /// The number of changes of one event at least.
        #[serde(default)]
        largest: Option<usize>,
        /// The name of an article, the operation of its newest change, and the number of its changes.
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        operation: Option<String>,
        #[serde(default)]
        times: Option<usize>,
    },
    /// The driver blocks in its handler from the next delivery on.
    Pause {
        of: String,
    },
    Resume {
        of: String,
    },
    Stop {
        of: String,
    },
    /// Kills the driver and starts another one, with the same connection.
    KillDriver,
    /// Restarts a follower of a killed driver, with its stored position.
    Restart {
        of: String,
    },

    /// Makes a call by the driver.
    Call {
        #[serde(default)]
        id: Option<String>,
        method: String,
        #[serde(default)]
        request: Value,
        #[serde(default)]
        timeout_ms: Option<u64>,
        /// Whether a later step awaits the end.
        #[serde(default)]
        background: bool,
        #[serde(default)]
        expect: Expect,
    },
    /// Reads pages (`pages`) or a stream (`stream`) by the driver.
    Read {
        #[serde(default)]
        id: Option<String>,
        what: String,
        #[serde(default)]
        request: Value,
        #[serde(default)]
        max_pages: Option<u64>,
        #[serde(default)]
        background: bool,
        #[serde(default)]
        expect: Expect,
    },
    /// Awaits the end of a command in the background.
    Finish {
        id: String,
        #[serde(default)]
        expect: Expect,
    },
    /// Connects another driver: with other endpoints, or another token.
    Reconnect {
        #[serde(default)]
        endpoints: Option<Vec<Endpoint>>,
        #[serde(default)]
        token: Option<TokenKind>,
    },

    /// Puts articles, directly on the node: `{prefix}0` and so on.
    Publish {
        #[serde(default = "one")]
        articles: usize,
        #[serde(default = "default_prefix")]
        prefix: String,
        #[serde(default)]
        tags: Vec<String>,
        /// The size of each body.
        #[serde(default)]
        bytes: usize,
        /// The text that the bodies repeat.
        #[serde(default = "default_fill")]
        fill: String,
        #[serde(default = "default_headline")]
        headline: String,
        /// Whether all are put by one commit.
        #[serde(default)]
        commit: bool,
        /// Whether they are put as an import puts them.
        #[serde(default)]
        import: bool,
    },
    /// Patches the headlines of articles by one commit.
    Patch {
        articles: usize,
        #[serde(default = "default_prefix")]
        prefix: String,
        headline: String,
    },
    /// Removes an article, directly on the node.
    Remove {
        name: String,
        #[serde(default = "withdrawn")]
        reason: String,
    },
    /// Sets a variable to the head of the node.
    Head {
        save: String,
    },
    /// Checks how far the head of the node has moved since the variable.
    HeadMoved {
        since: String,
        by: i64,
    },

    /// Controls the node: `start`, `stop` (SIGSTOP), `cont`, `term`, `kill`, `wait`, `backup`, `restore`.
    Node {
        action: String,
    },
    /// Revokes a token, or creates one: its text replaces the content of the client's token file.
    Token {
        #[serde(default)]
        new: Option<String>,
        #[serde(default)]
        expires: Option<String>,
        #[serde(default)]
        revoke: Option<String>,
        #[serde(default)]
        role: Option<String>,
    },

    /// Sets the mode of the proxy.
    Proxy {
        #[serde(default)]
        mode: Mode,
        #[serde(default)]
        other: bool,
    },
    /// Closes all connections of the proxy.
    Cut {},
    /// Stalls all open connections of the proxy for good. New ones pass.
    Stall {},
    /// Waits until the history floor of the node is above this variable.
    AwaitFloor {
        above: String,
    },
    /// Waits until the proxy has accepted this many connections since its mode last changed, or since the last such
    /// step. A fast client connects during the steps between, and those connections count.
    AwaitConnections {
        more: u64,
    },
    /// Adds a rule to the gate.
    Gate(Rule),
    /// Removes all rules of the gate.
    OpenGate {},
    /// Checks the calls of a method that the gate has seen.
    Calls {
        method: String,
        #[serde(default)]
        at_least: Option<usize>,
        #[serde(default)]
        at_most: Option<usize>,
        /// The smallest time between the first two calls.
        #[serde(default)]
        gap_ms: Option<u64>,
        /// Whether all messages are equal, and have a request id: the number of its field.
        #[serde(default)]
        same_request_id: Option<u32>,
        /// A header that every call has.
        #[serde(default)]
        header: Option<String>,
        #[serde(default = "long_wait")]
        within_ms: u64,
    },
    /// Waits. Only for what is about time.
    Sleep {
        ms: u64,
    },
}

fn one() -> usize {
    1
}

fn one_second() -> u64 {
    1_000
}

fn long_wait() -> u64 {
    60_000
}

fn default_prefix() -> String {
    "a".to_owned()
}

fn default_fill() -> String {
    "storm ".to_owned()
}

fn default_headline() -> String {
    "Storm over Norwick".to_owned()
}

fn withdrawn() -> String {
    "REMOVAL_REASON_WITHDRAWN".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// Returns all cases.
pub(crate) fn all() -> Result<Vec<Case>, String> {
    toml::from_str::<File>(CASES).map(|file| file.case).map_err(|error| format!("cases.toml: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_cases_can_be_read_and_have_names_of_their_own() {
        let cases = all().unwrap();
        let names: BTreeSet<&str> = cases.iter().map(|case| &case.name[..]).collect();
        assert_eq!(names.len(), cases.len());
        assert!(cases.len() >= 30, "{} cases", cases.len());
        let known =
            ["call", "pages", "stream", "follow", "mirror", "token", "token_file", "store_file", "endpoints"];
        for case in cases {
            assert!(case.about.ends_with('.') && !case.steps.is_empty(), "{}", case.name);
            assert!(
                case.needs.iter().all(|need| known.contains(&&need[..])),
                "{}: {:?}",
                case.name,
                case.needs
            );
        }
    }
}
