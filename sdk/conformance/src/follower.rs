//! A model of a follower: it applies the events of a driver, and checks the promises of `feed.proto` after each.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Etags by name.
pub(crate) type Content = BTreeMap<String, String>;

/// The part of its life that a follower is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before the first event of a driver that has a stored position or none: a snapshot or changes can come.
    Unknown,
    /// From the request of a snapshot, or a reset, to its end.
    Snapshot,
    /// After a position.
    Changes,
}

/// A commit of several changes, all of which match every filter of the case: its first and its last revision.
pub(crate) type Commit = (i64, i64);

/// The state of a follower.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) content: Content,
    /// The newest position as JSON.
    pub(crate) position: Option<Value>,
    /// The newest position that was a checkpoint without `behind`, since the last reset.
    pub(crate) caught_up: Option<(String, i64)>,
    /// The reasons of all resets.
    pub(crate) resets: Vec<String>,
    /// All changes: revision, operation and name.
    pub(crate) changes: Vec<(i64, String, String)>,
    pub(crate) checkpoints: u64,
    pub(crate) snapshots: u64,
    pub(crate) retries: u64,
    /// The error that ended the follower.
    pub(crate) error: Option<Value>,
    /// The largest number of changes in one event.
    pub(crate) largest: usize,
    phase: Phase,
    log: String,
    revision: i64,
    incoming: Content,
    /// The number of records of the incomplete snapshot.
    records: u64,
}

impl Follower {
    /// A follower that starts with a snapshot.
    pub(crate) fn with_snapshot() -> Follower {
        Follower {
            content: Content::new(),
            position: None,
            caught_up: None,
            resets: Vec::new(),
            changes: Vec::new(),
            checkpoints: 0,
            snapshots: 0,
            retries: 0,
            error: None,
            largest: 0,
            phase: Phase::Snapshot,
            log: String::new(),
            revision: 0,
            incoming: Content::new(),
            records: 0,
        }
    }

    /// A follower that starts with changes, for example after a position, and holds this already.
    pub(crate) fn with_content(content: Content, position: Option<&Value>) -> Follower {
        let (log, revision) = position
            .map(|position| (text(&position["logId"]), number(&position["revision"])))
            .unwrap_or_default();
        let phase = Phase::Changes;
        Follower { content, phase, log, revision, ..Follower::with_snapshot() }
    }

    /// A new process continues. The last deliveries that the earlier one applied may come again.
    pub(crate) fn restart(&mut self) {
        (self.phase, self.revision) = (Phase::Unknown, 0);
        (self.caught_up, self.error) = (None, None);
        self.incoming.clear();
        self.records = 0;
    }

    /// Applies an event. An error is a broken promise.
    pub(crate) fn apply(&mut self, event: &Value, commits: &[Commit]) -> Result<(), String> {
        if self.error.is_some() {
            return Err(format!("an event after the end of the follower: {event}"));
        }
        match event["event"].as_str().unwrap_or_default() {
            "changes" => self.apply_changes(event, commits),
            "checkpoint" => self.apply_checkpoint(event),
            "snapshot" => self.apply_snapshot(event),
            "snapshot_end" => self.end_snapshot(event),
            "reset" => {
                self.resets.push(text(&event["reason"]));
                self.phase = Phase::Snapshot;
                self.incoming.clear();
                self.records = 0;
                self.caught_up = None;
                Ok(())
            }
            "retry" => {
                self.retries += 1;
                Ok(())
            }
            "error" => {
                self.error = Some(event.clone());
                Ok(())
            }
            _ => Err(format!("not an event of a follower: {event}")),
        }
        .map_err(|problem| format!("{problem}: {}", shortened(event)))
    }

    fn apply_changes(&mut self, event: &Value, commits: &[Commit]) -> Result<(), String> {
        self.begin_changes()?;
        let changes = event["changes"].as_array().filter(|changes| !changes.is_empty());
        let changes = changes.ok_or("changes without a change")?;
        self.largest = self.largest.max(changes.len());
        let mut last = self.revision;
        for change in changes {
            let (revision, name) = (number(&change["revision"]), text(&change["name"]));
            if revision <= last {
                return Err(format!("revision {revision} after {last}"));
            }
            last = revision;
            let operation = text(&change["op"]);
            match &operation[..] {
                "upsert" => {
                    let etag = text(&change["etag"]);
                    if etag.is_empty() || name.is_empty() {
                        return Err("an upsert without name or etag".to_owned());
                    }
                    self.content.insert(name.clone(), etag);
                }
                "left" | "removed" => _ = self.content.remove(&name),
                other => return Err(format!("the operation {other}")),
            }
            self.changes.push((revision, operation, name));
        }
        let end = self.advance(event)?;
        if end < last {
            return Err(format!("a position at {end}, before the change at {last}"));
        }
        match commits.iter().find(|(first, last)| (*first..*last).contains(&end)) {
            Some((first, last)) => Err(format!("the commit of {first} to {last} is split at {end}")),
            None => Ok(()),
        }
    }

    fn apply_checkpoint(&mut self, event: &Value) -> Result<(), String> {
        self.begin_changes()?;
        self.checkpoints += 1;
        let revision = self.advance(event)?;
        if event["behind"] != true {
            self.caught_up = Some((self.log.clone(), revision));
        }
        Ok(())
    }

    fn begin_changes(&mut self) -> Result<(), String> {
        match self.phase {
            Phase::Snapshot => Err("before the end of the snapshot".to_owned()),
            _ => {
                self.phase = Phase::Changes;
                Ok(())
            }
        }
    }

    fn apply_snapshot(&mut self, event: &Value) -> Result<(), String> {
        if self.phase == Phase::Changes {
            return Err("a snapshot without a reset".to_owned());
        }
        self.phase = Phase::Snapshot;
        for record in event["records"].as_array().ok_or("a snapshot without records")? {
            let (name, etag) = (text(&record["name"]), text(&record["etag"]));
            if name.is_empty() || etag.is_empty() {
                return Err("a record without name or etag".to_owned());
            }
            if self.incoming.insert(name.clone(), etag).is_some() {
                return Err(format!("{name} comes twice in the snapshot"));
            }
            self.records += 1;
        }
        Ok(())
    }

    fn end_snapshot(&mut self, event: &Value) -> Result<(), String> {
        if self.phase == Phase::Changes {
            return Err("the end of a snapshot that has not begun".to_owned());
        }
        let count = if event["count"].is_null() { 0 } else { number(&event["count"]) };
        if i64::try_from(self.records) != Ok(count) {
            return Err(format!("{} records instead of {count}", self.records));
        }
        self.content = std::mem::take(&mut self.incoming);
        (self.records, self.revision) = (0, 0);
        self.log.clear();
        self.phase = Phase::Changes;
        self.snapshots += 1;
        self.advance(event).map(|_| ())
    }

    /// Checks the position of an event, and returns its revision.
    fn advance(&mut self, event: &Value) -> Result<i64, String> {
        let position = &event["position"];
        let log = text(&position["logId"]);
        // The JSON of messages omits a zero.
        let revision = if position["revision"].is_null() { 0 } else { number(&position["revision"]) };
        if log.is_empty() || text(&position["chain"]).is_empty() && revision > 0 {
            return Err("no position with log and chain".to_owned());
        }
        if !self.log.is_empty() && self.log != log {
            return Err(format!("a position of the log {log} after one of {}", self.log));
        }
        if revision < self.revision {
            return Err(format!("a position at {revision} after one at {}", self.revision));
        }
        (self.log, self.revision) = (log, revision);
        self.position = Some(position.clone());
        Ok(revision)
    }
}

/// Returns the differences of two contents, at most three of them.
pub(crate) fn difference(follower: &Content, node: &Content) -> Option<String> {
    let names: BTreeSet<&String> = follower.keys().chain(node.keys()).collect();
    let differences: Vec<String> = names
        .into_iter()
        .filter(|name| follower.get(*name) != node.get(*name))
        .map(|name| format!("{name}: follower {:?}, node {:?}", follower.get(name), node.get(name)))
        .collect();
    let more = differences.len().saturating_sub(3);
    (!differences.is_empty())
        .then(|| format!("{} (and {more} more)", differences[..differences.len() - more].join("; ")))
}

/// Returns a string, or an empty one.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Returns a number or a decimal string as a number, or -1.
pub(crate) fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(-1)
}

fn shortened(event: &Value) -> String {
    let text = event.to_string();
    match text.char_indices().nth(400) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn position(revision: i64) -> Value {
        json!({"logId": "0123abcd", "revision": revision.to_string(), "chain": "AAAA"})
    }

    fn changes(revisions: &[i64], end: i64) -> Value {
        let changes: Vec<Value> = revisions
            .iter()
            .map(|r| json!({"revision": r, "op": "upsert", "name": format!("articles/a{r}"), "etag": "e"}))
            .collect();
        json!({"event": "changes", "position": position(end), "changes": changes})
    }

    fn checkpoint(revision: i64) -> Value {
        json!({"event": "checkpoint", "position": position(revision), "behind": false})
    }

    fn snapshot(names: &[&str], count: i64) -> [Value; 2] {
        let records: Vec<Value> = names.iter().map(|name| json!({"name": name, "etag": "e"})).collect();
        [
            json!({"event": "snapshot", "records": records}),
            json!({"event": "snapshot_end", "count": count, "position": position(3)}),
        ]
    }

    fn run(mut follower: Follower, events: &[Value]) -> Result<Follower, String> {
        let commits = [(5, 8)];
        events.iter().try_for_each(|event| follower.apply(event, &commits))?;
        Ok(follower)
    }

    fn from_snapshot(events: &[Value]) -> Result<Follower, String> {
        run(Follower::with_snapshot(), events)
    }

    fn from_content(events: &[Value]) -> Result<Follower, String> {
        run(Follower::with_content(Content::new(), Some(&position(4))), events)
    }

    #[test]
    fn a_snapshot_and_changes_are_applied() {
        let [records, end] = snapshot(&["articles/a", "articles/b"], 2);
        let follower = from_snapshot(&[records, end, changes(&[4, 9], 9), checkpoint(9)]).unwrap();
        assert_eq!(follower.content.len(), 4);
        assert_eq!(follower.caught_up, Some(("0123abcd".to_owned(), 9)));
    }

    #[test]
    fn broken_promises_of_changes_are_found() {
        for (events, problem) in [
            (vec![changes(&[9, 9], 9)], "revision 9 after 9"),
            (vec![changes(&[10, 9], 10)], "revision 9 after 10"),
            (vec![checkpoint(9), changes(&[9], 9)], "revision 9 after 9"),
            (vec![changes(&[4], 9)], "revision 4 after 4"),
            (vec![changes(&[10], 9)], "before the change at 10"),
            (vec![checkpoint(9), checkpoint(8)], "a position at 8 after one at 9"),
            (vec![changes(&[5, 6], 6)], "the commit of 5 to 8 is split at 6"),
            (vec![changes(&[], 9)], "changes without a change"),
            (vec![snapshot(&[], 0)[0].clone()], "a snapshot without a reset"),
            (vec![snapshot(&[], 0)[1].clone()], "has not begun"),
            (
                vec![
                    json!({"event": "checkpoint", "position": {"logId": "ffff0000", "revision": 9, "chain": "A"}}),
                ],
                "log ffff0000",
            ),
            (vec![json!({"event": "error"}), checkpoint(9)], "after the end"),
        ] {
            let found = from_content(&events).unwrap_err();
            assert!(found.contains(problem), "{found}, not {problem}");
        }
    }

    #[test]
    fn broken_promises_of_snapshots_are_found() {
        let [records, end] = snapshot(&["articles/a", "articles/a"], 2);
        let twice = from_snapshot(&[records, end]).unwrap_err();
        assert!(twice.contains("comes twice"), "{twice}");
        let [records, end] = snapshot(&["articles/a"], 2);
        let lost = from_snapshot(&[records.clone(), end]).unwrap_err();
        assert!(lost.contains("1 records instead of 2"), "{lost}");
        let early = from_snapshot(&[records, checkpoint(9)]).unwrap_err();
        assert!(early.contains("before the end of the snapshot"), "{early}");
    }

    #[test]
    fn a_reset_replaces_the_content_when_its_snapshot_ends() {
        let reset = json!({"event": "reset", "reason": "COMPACTED"});
        let [records, end] = snapshot(&["articles/new"], 1);
        let mut follower = from_content(&[changes(&[9], 9), reset, records]).unwrap();
        assert!(follower.content.contains_key("articles/a9"));
        follower.apply(&end, &[]).unwrap();
        assert_eq!(follower.content.keys().collect::<Vec<_>>(), ["articles/new"]);
    }

    #[test]
    fn a_restarted_follower_may_repeat() {
        let mut follower = from_content(&[changes(&[9], 9)]).unwrap();
        follower.restart();
        follower.apply(&changes(&[9, 10], 10), &[]).unwrap();
        assert!(follower.apply(&changes(&[10], 10), &[]).is_err());
    }

    #[test]
    fn differences_are_named() {
        let content = |etags: &[(&str, &str)]| -> Content {
            etags.iter().map(|(name, etag)| ((*name).to_owned(), (*etag).to_owned())).collect()
        };
        assert_eq!(difference(&content(&[("a", "1")]), &content(&[("a", "1")])), None);
        let found = difference(&content(&[("a", "1"), ("b", "1")]), &content(&[("a", "2")])).unwrap();
        assert!(
            found.starts_with(r#"a: follower Some("1"), node Some("2"); b: follower Some("1"), node None"#)
        );
    }
}
