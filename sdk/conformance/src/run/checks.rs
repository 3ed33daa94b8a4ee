//! Waiting for events, applying them, and comparing followers and mirrors with the node.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::{Run, filter_message};
use crate::{
    Outcome,
    case::Expect,
    fail,
    follower::{Content, Follower, difference, number, text},
};

/// The interval at which the state of a mirror is requested.
const POLL: Duration = Duration::from_millis(50);
/// The time for a call without a bound of its own.
const LONGEST_CALL: Duration = Duration::from_secs(60);

impl Run {
    /// Applies the events of a follower until one fulfils a condition. Returns it, or `None` if none came in time.
    pub(super) async fn pump(
        &mut self,
        of: &str,
        within: Duration,
        mut is_done: impl FnMut(&Follower, &Value) -> bool,
    ) -> Outcome<Option<Value>> {
        let end = Instant::now() + within;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Some(event) = self.driver.next(of, left).await? else { return Ok(None) };
            self.note(format!("event: {event}"));
            let follower = self.followers.get_mut(of).ok_or_else(|| format!("no follower {of}"))?;
            follower
                .apply(&event, &self.commits)
                .map_err(|problem| format!("{of}: broken promise: {problem}"))?;
            if is_done(follower, &event) {
                return Ok(Some(event));
            }
        }
    }

    /// Waits until followers and mirrors hold what the node has. Without names, until all do that have not ended.
    pub(crate) async fn converge(&mut self, of: &[String], within: Duration) -> Outcome {
        let is_meant = |name: &String| of.is_empty() || of.contains(name);
        let followers: Vec<String> = self
            .followers
            .iter()
            .filter(|(name, follower)| is_meant(name) && follower.error.is_none())
            .map(|(name, _)| name.clone())
            .collect();
        let mirrors: Vec<String> = self.mirrors.keys().filter(|name| is_meant(name)).cloned().collect();
        if followers.is_empty() && mirrors.is_empty() {
            return Ok(());
        }
        for follower in followers {
            self.converge_follower(&follower, within).await?;
        }
        for mirror in mirrors {
            self.converge_mirror(&mirror, within).await?;
        }
        Ok(())
    }

    async fn converge_follower(&mut self, of: &str, within: Duration) -> Outcome {
        let head = self.node.head().await?;
        let expected = self.content_of(of).await?;
        let is_there = |follower: &Follower| {
            follower.error.is_some()
                || matches!(&follower.caught_up, Some((log, revision)) if *log == head.log_id && *revision >= head.revision)
        };
        let is_done = self.followers.get(of).is_some_and(is_there);
        if !is_done && self.pump(of, within, |follower, _| is_there(follower)).await?.is_none() {
            let follower = self.followers.get(of);
            let state = follower.map(|f| (&f.caught_up, difference(&f.content, &expected)));
            return fail(format!("{of} has not caught up with {head} within {within:?}: {state:?}"));
        }
        let follower = self.followers.get(of).ok_or("no such follower")?;
        if let Some(error) = &follower.error {
            return fail(format!("{of} has ended: {error}"));
        }
        match difference(&follower.content, &expected) {
            None => Ok(()),
            Some(difference) => fail(format!("{of} differs from the node at {head}: {difference}")),
        }
    }

    /// The content of the node that matches the filter of a follower or mirror.
    pub(super) async fn content_of(&self, of: &str) -> Outcome<Content> {
        let filter = self.filters.get(of).or_else(|| self.mirrors.get(of).map(|mirror| &mirror.filter));
        let filter = filter.ok_or_else(|| format!("nothing is named {of}"))?;
        self.node.snapshot(&filter_message(filter)?).await
    }

    async fn converge_mirror(&mut self, of: &str, within: Duration) -> Outcome {
        let expected = self.content_of(of).await?;
        let end = Instant::now() + within;
        loop {
            while self.driver.has_event(of) {
                let event = self.driver.next(of, POLL).await?.unwrap_or_default();
                self.note(format!("event: {event}"));
                if event["event"] == "error" {
                    return fail(format!("the mirror {of} has ended: {event}"));
                }
            }
            let state = self.driver.ask(json!({"command": "state", "of": of})).await?;
            let items = state["items"].as_array().ok_or_else(|| format!("not a state: {state}"))?;
            let content: Content =
                items.iter().map(|item| (text(&item["name"]), text(&item["etag"]))).collect();
            if content.len() != items.len() {
                return fail(format!("the mirror {of} has a name twice: {state}"));
            }
            let Some(difference) = difference(&content, &expected) else { return Ok(()) };
            if Instant::now() > end {
                return fail(format!("the mirror {of} differs from the node: {difference}"));
            }
            sleep(POLL).await;
        }
    }

    /// Awaits the end of a command, and checks it.
    pub(super) async fn finish(&mut self, id: &str, expect: &Expect) -> Outcome {
        let started = self.started.get(id).copied().unwrap_or_else(Instant::now);
        let within = expect.within_ms.map_or(LONGEST_CALL, Duration::from_millis);
        let mut items = Vec::new();
        let last = loop {
            let left = (started + within).saturating_duration_since(Instant::now());
            let Some(event) = self.driver.next(id, left).await? else {
                return fail(format!("no end of {id} within {within:?}"));
            };
            self.note(format!("event: {event}"));
            match event["event"].as_str() {
                Some("item") => items.push(text(&event["name"])),
                Some("result" | "end" | "error") => break event,
                _ => return fail(format!("not an event of a call: {event}")),
            }
        };
        self.check_end(&last, &items, started.elapsed(), expect)?;
        for (variable, pointer) in &expect.save {
            let value = last.pointer(pointer.as_str().unwrap_or_default()).cloned().unwrap_or_default();
            self.variables.insert(variable.clone(), value);
        }
        Ok(())
    }

    fn check_end(&self, last: &Value, items: &[String], took: Duration, expect: &Expect) -> Outcome {
        let is_error = last["event"] == "error";
        let is_expected = expect.codes.iter().any(|code| *code == text(&last["code"]) || code == "*");
        if is_error && !is_expected {
            return fail(format!("{last}, expected {:?}", expect.codes));
        }
        if !is_error && !expect.codes.is_empty() && !expect.or_success {
            return fail(format!("success, expected {:?}: {last}", expect.codes));
        }
        let mut names = items.to_vec();
        names.sort();
        names.dedup();
        if names.len() != items.len() {
            return fail(format!("an item came twice: {items:?}"));
        }
        if let Some(expected) = expect.items
            && (!is_error && items.len() != expected || items.len() > expected)
        {
            return fail(format!("{} items instead of {expected}", items.len()));
        }
        if let Some(most) = expect.at_most
            && items.len() > most
        {
            return fail(format!("{} items, at most {most} are possible", items.len()));
        }
        if last["event"] == "end" && number(&last["count"]) != i64::try_from(items.len()).unwrap_or(-2) {
            return fail(format!("{} items, but {last}", items.len()));
        }
        if let Some(least) = expect.at_least_ms
            && took < Duration::from_millis(least)
        {
            return fail(format!("it took {took:?}, less than {least} ms"));
        }
        match is_error && expect.or_success {
            true => Ok(()),
            false => self.check_values(last, &expect.values),
        }
    }

    /// Checks values of an event by JSON pointer.
    pub(super) fn check_values(&self, event: &Value, expected: &Map<String, Value>) -> Outcome {
        for (pointer, expected) in expected {
            let expected = self.filled_in(expected.clone())?;
            let actual = event.pointer(pointer).cloned().unwrap_or_default();
            if !matches(&actual, &expected) {
                return fail(format!("{pointer} is {actual}, expected {expected}: {event}"));
            }
        }
        Ok(())
    }

    /// Whether values of an event are as expected.
    pub(super) fn has_values(&self, event: &Value, expected: &Map<String, Value>) -> bool {
        self.check_values(event, expected).is_ok()
    }

    /// Replaces the strings that start with `$` by variables.
    pub(super) fn filled_in(&self, value: Value) -> Outcome<Value> {
        Ok(match value {
            Value::String(name) if name.starts_with('$') => {
                let variable = self.variables.get(&name[1..]);
                variable.cloned().ok_or_else(|| format!("no variable {name}"))?
            }
            Value::Array(values) => {
                values.into_iter().map(|value| self.filled_in(value)).collect::<Outcome<Vec<Value>>>()?.into()
            }
            Value::Object(members) => members
                .into_iter()
                .map(|(key, value)| Ok((key, self.filled_in(value)?)))
                .collect::<Outcome<Map<String, Value>>>()?
                .into(),
            other => other,
        })
    }
}

/// Whether a value is as expected. JSON of messages omits defaults, and has large numbers as strings. `*` stands for
/// any text, and `~` before a text for what contains it.
fn matches(actual: &Value, expected: &Value) -> bool {
    match expected {
        Value::Bool(false) => matches!(actual, Value::Null | Value::Bool(false)),
        Value::Null => matches!(actual, Value::Null) || actual == "",
        Value::Number(_) if actual.is_null() => number(expected) == 0,
        Value::Number(_) => number(actual) == number(expected),
        Value::String(any) if any == "*" => !text(actual).is_empty(),
        Value::String(part) if part.starts_with('~') => text(actual).contains(&part[1..]),
        Value::String(_) if actual.is_number() => number(actual) == number(expected),
        other => actual == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_match_as_json_of_messages_has_them() {
        for (actual, expected) in [
            (json!(null), json!(false)),
            (json!("7"), json!(7)),
            (json!(7), json!("7")),
            (json!(null), json!(0)),
            (json!("x"), json!("*")),
            (json!("a tag"), json!("~tag")),
            (json!(""), json!(null)),
        ] {
            assert!(matches(&actual, &expected), "{actual} {expected}");
        }
        for (actual, expected) in [
            (json!(true), json!(false)),
            (json!("7"), json!(8)),
            (json!(null), json!("*")),
            (json!("a"), json!("b")),
            (json!("x"), json!(null)),
            (json!("a"), json!("~tag")),
        ] {
            assert!(!matches(&actual, &expected), "{actual} {expected}");
        }
    }
}
