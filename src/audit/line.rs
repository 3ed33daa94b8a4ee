//! The lines of the audit log: what happened, as one object of JSON.

use std::{fmt::Write as _, net::IpAddr};

use super::Origin;
use crate::{
    model::{LogId, Revision},
    reload::Settings,
    wire::fields,
};

/// The maximum number of changes that a line lists. A commit has at most 500, and each can move a path or a pending
/// version of another article. Kills are listed in any case.
const MAX_CHANGES_PER_LINE: usize = 1_000;

/// Something that the audit log records.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The node has started.
    Start { log_id: LogId },
    /// The node has stopped, and the reason if it failed.
    Stop { failure: Option<String> },
    /// Changes that are about to be committed, or were committed by an earlier call with the same `request_id`.
    Write { origin: Origin, outcome: &'static str, changes: Vec<Change> },
    /// Records of an import. Only the kills among them are listed.
    Import { origin: Origin, records: usize, revisions: Option<(Revision, Revision)>, kills: Vec<Change> },
    /// A backup is about to be sent, or has ended. It holds the store up to the revision; the bytes are those
    /// that were sent.
    Backup { origin: Origin, outcome: &'static str, log_id: LogId, revision: Revision, bytes: u64 },
    /// The lines of writes after this revision describe changes that the store does not have.
    NotCommitted { after: Revision, to: Revision, reason: String },
    /// The store has changes without lines: the log was off when they were made.
    Unrecorded { after: Revision, to: Revision },
    /// A call was refused because of who made it.
    Denial { origin: Origin, code: &'static str, reason: String },
    /// More calls were refused than the log records.
    DenialsOmitted { count: u64 },
    /// The credentials were read again, at a request after the settings.
    Reload { credentials: Option<usize>, settings: Settings },
    /// The log can be written again, after it could not.
    Resumed,
    /// The oldest file of the log is removed, because there are as many as the settings allow. `lines` is the hash of
    /// its last line, if it can be read.
    FileRemoved { file: String, lines: Option<String> },
    /// The file before this one is no longer where it was written, or not as it was written.
    FileLost { reason: &'static str },
}

/// One change of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) name: String,
    pub(crate) action: Action,
    pub(crate) revision: Revision,
}

/// The effect of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Put,
    PutPending,
    Remove,
    RemovePending,
    Kill,
    /// Nothing: the wanted version exists.
    Nothing,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Action::Put => "put",
            Action::PutPending => "put_pending",
            Action::Remove => "remove",
            Action::RemovePending => "remove_pending",
            Action::Kill => "kill",
            Action::Nothing => "none",
        }
    }
}

impl Event {
    /// Returns the members of the line that describe the event.
    pub(crate) fn members(&self, time: i64) -> Members {
        let mut line = Members::default();
        line.text("time", &fields::timestamp(time).to_string()).text("event", self.name());
        match self {
            Event::Start { log_id } => {
                line.text("version", env!("CARGO_PKG_VERSION")).text("log_id", &log_id.to_string());
            }
            Event::Stop { failure } => {
                if let Some(failure) = failure {
                    line.text("failure", failure);
                }
            }
            Event::Write { origin, outcome, changes } => {
                line.origin(origin).text("outcome", outcome).changes(changes);
            }
            Event::Import { origin, records, revisions, kills } => {
                line.origin(origin).number("records", records);
                if let Some((first, last)) = revisions {
                    line.number("first_revision", first).number("last_revision", last);
                }
                line.changes(kills);
            }
            Event::Backup { origin, outcome, log_id, revision, bytes } => {
                line.origin(origin).text("outcome", outcome).text("log_id", &log_id.to_string());
                line.number("revision", revision).number("bytes", bytes);
            }
            Event::NotCommitted { after, to, reason } => {
                line.number("after_revision", after).number("to_revision", to).text("reason", reason);
            }
            Event::Unrecorded { after, to } => {
                line.number("after_revision", after).number("to_revision", to);
            }
            Event::Denial { origin, code, reason } => {
                line.origin(origin).text("outcome", code).text("reason", reason);
            }
            Event::DenialsOmitted { count } => {
                line.number("count", count);
            }
            Event::Reload { credentials, settings } => {
                let is_ok = credentials.is_some() && *settings == Settings::Valid;
                line.text("outcome", if is_ok { "ok" } else { "failed" });
                if *settings == Settings::Invalid {
                    line.text("settings", "invalid");
                }
                if let Some(count) = credentials {
                    line.number("credentials", count);
                }
            }
            Event::Resumed => {}
            Event::FileRemoved { file, lines } => {
                line.text("file", file);
                if let Some(lines) = lines {
                    line.text("last_line", lines);
                }
            }
            Event::FileLost { reason } => {
                line.text("reason", reason);
            }
        }
        line
    }

    fn name(&self) -> &'static str {
        match self {
            Event::Start { .. } => "start",
            Event::Stop { .. } => "stop",
            Event::Write { .. } => "write",
            Event::Import { .. } => "import",
            Event::Backup { .. } => "backup",
            Event::NotCommitted { .. } => "not_committed",
            Event::Unrecorded { .. } => "unrecorded",
            Event::Denial { .. } => "denial",
            Event::DenialsOmitted { .. } => "denials_omitted",
            Event::Reload { .. } => "reload",
            Event::Resumed => "resumed",
            Event::FileRemoved { .. } => "file_removed",
            Event::FileLost { .. } => "file_lost",
        }
    }

    /// Whether anyone without a right can cause the event.
    pub(super) fn is_denial(&self) -> bool {
        matches!(self, Event::Denial { .. } | Event::DenialsOmitted { .. })
    }
}

/// The members of an object of JSON, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Members(String);

impl Members {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn text(&mut self, key: &str, value: &str) -> &mut Members {
        self.key(key);
        put_text(&mut self.0, value);
        self
    }

    fn number(&mut self, key: &str, value: impl std::fmt::Display) -> &mut Members {
        self.key(key);
        let _infallible = write!(self.0, "{value}");
        self
    }

    fn key(&mut self, key: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        put_text(&mut self.0, key);
        self.0.push(':');
    }

    fn origin(&mut self, origin: &Origin) -> &mut Members {
        self.text("principal", &origin.principal);
        if let Some(credential) = &origin.credential {
            self.text("credential", credential);
        }
        if let Some(peer) = origin.peer {
            self.text("peer", &display_peer(peer));
        }
        self.text("method", &origin.method);
        if !origin.request_id.is_empty() {
            self.text("request_id", &origin.request_id);
        }
        self
    }

    /// Lists changes, the kills first.
    fn changes(&mut self, changes: &[Change]) -> &mut Members {
        let (kills, others): (Vec<_>, Vec<_>) =
            changes.iter().partition(|change| change.action == Action::Kill);
        let room = MAX_CHANGES_PER_LINE.saturating_sub(kills.len());
        let omitted = others.len().saturating_sub(room);
        self.key("changes");
        self.0.push('[');
        for (index, change) in kills.into_iter().chain(others.into_iter().take(room)).enumerate() {
            let mut members = Members::default();
            members.text("name", &change.name).text("action", change.action.name());
            members.number("revision", change.revision);
            let comma = if index > 0 { "," } else { "" };
            let _infallible = write!(self.0, "{comma}{{{}}}", members.0);
        }
        self.0.push(']');
        if omitted > 0 {
            self.number("changes_omitted", omitted);
        }
        self
    }
}

/// Returns the text form of a peer's address: an IPv4 address that is written as IPv6 is one of IPv4.
pub(crate) fn display_peer(peer: IpAddr) -> String {
    peer.to_canonical().to_string()
}

/// Appends a string of JSON. Characters that a terminal or an editor would not show as they are, are escaped.
fn put_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_invisible(c) => {
                let _infallible = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Whether a character is a control, a separator of lines or a mark of text direction. All of them have one unit in
/// UTF-16.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_so_that_a_line_is_one_line() {
        let mut line = Members::default();
        line.text("a\n", "\"\\\r\n\u{1b}[31m\u{7f}\u{9b}\u{2028}\u{202e}é");
        let escaped = "\"a\\u000a\":\"\\\"\\\\\\u000d\\u000a\\u001b[31m\\u007f\\u009b\\u2028\\u202eé\"";
        assert_eq!(line.as_str(), escaped);
        let parsed: serde_json::Value = serde_json::from_str(&format!("{{{escaped}}}")).unwrap();
        assert_eq!(parsed["a\n"], "\"\\\r\n\u{1b}[31m\u{7f}\u{9b}\u{2028}\u{202e}é");
    }

    #[test]
    fn a_long_write_omits_puts_and_no_kill() {
        let change = |n: usize, action| Change { name: format!("articles/{n}"), action, revision: n as i64 };
        let mut changes: Vec<_> = (0..1_500).map(|n| change(n, Action::Put)).collect();
        changes.extend((0..700).map(|n| change(n, Action::Kill)));
        let event = Event::Write { origin: Origin::scheduler(), outcome: "committed", changes };
        let text = format!("{{{}}}", event.members(0).as_str());
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        let listed = line["changes"].as_array().unwrap();
        let kills = listed.iter().filter(|change| change["action"] == "kill").count();
        assert_eq!((listed.len(), kills, &line["changes_omitted"]), (1_000, 700, &1_200.into()));
    }
}
