//! The steps of a case.

use std::time::{Duration, Instant};

use cable_client::{Change, RawRecord, RemovalReason, UpdateKind, v1};
use futures_util::{TryStreamExt as _, stream};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Mirror, Run, filter_json, filter_message, write_token};
use crate::{
    Outcome,
    case::{Filter, Start, Step},
    fail,
    follower::Follower,
    gate::Call,
    node::article,
    proxy::Mode,
};

/// The interval at which a condition of the runner's own is checked.
const POLL: Duration = Duration::from_millis(20);
/// The time for a condition of the node.
const NODE: Duration = Duration::from_secs(30);

impl Run {
    pub(super) async fn step(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Follow { .. } | Step::Mirror { .. } | Step::Restart { .. } | Step::KillDriver => {
                self.start_feed(step).await
            }
            Step::Ready { of } => loop {
                match self.driver.next(of, Duration::from_secs(60)).await? {
                    Some(event) if event["event"] == "ready" => return Ok(()),
                    Some(event) if event["event"] == "retry" => {}
                    other => return fail(format!("{of} is not ready: {other:?}")),
                }
            },
            Step::Converge { of, within_ms } => self.converge(of, Duration::from_millis(*within_ms)).await,
            Step::Await { of, event, values, within_ms } => {
                self.await_event(of, event, values, *within_ms).await
            }
            Step::Quiet { of, ms } => {
                let is_change = |_: &Follower, event: &Value| event["event"] == "changes";
                match self.pump(of, Duration::from_millis(*ms), is_change).await? {
                    None => Ok(()),
                    Some(event) => fail(format!("{of} was to stay quiet: {event}")),
                }
            }
            Step::Check { .. } => self.check(step),
            Step::Pause { of } | Step::Resume { of } | Step::Stop { of } => self.control(step, of).await,
            Step::Call { .. } | Step::Read { .. } => self.call(step).await,
            Step::Finish { id, expect } => self.finish(id, expect).await,
            Step::Reconnect { endpoints, token } => {
                self.endpoints.clone_from(endpoints.as_ref().unwrap_or(&self.endpoints.clone()));
                self.token = token.unwrap_or(self.token);
                self.replace_driver().await.map(|_| ())
            }
            Step::Publish { .. } | Step::Patch { .. } | Step::Remove { .. } => self.write(step).await,
            Step::Head { save } => {
                let head = self.node.head().await?;
                self.variables.insert(save.clone(), head.revision.into());
                Ok(())
            }
            Step::HeadMoved { since, by } => {
                let before = self.variables.get(since).and_then(Value::as_i64).ok_or("no such variable")?;
                let moved = self.node.head().await?.revision - before;
                if moved == *by { Ok(()) } else { fail(format!("the head moved by {moved}, not by {by}")) }
            }
            Step::Node { action } => self.node_action(action).await,
            Step::Token { new, expires, revoke, role } => {
                self.change_tokens(new.as_deref(), expires.as_deref(), revoke.as_deref(), role.as_deref())
                    .await
            }
            Step::Proxy { mode, other } => {
                self.counted = self.proxy.accepted();
                if *other { &self.other } else { &self.proxy }.set(*mode);
                Ok(())
            }
            Step::Cut {} => {
                self.proxy.cut();
                Ok(())
            }
            Step::Stall {} => {
                self.proxy.stall();
                Ok(())
            }
            Step::AwaitFloor { above } => self.await_floor(above).await,
            Step::AwaitConnections { more } => {
                let expected = self.counted + more;
                let end = Instant::now() + Duration::from_secs(120);
                while self.proxy.accepted() < expected {
                    if Instant::now() > end {
                        return fail(format!("the client did not connect {more} times again"));
                    }
                    sleep(POLL).await;
                }
                self.counted = self.proxy.accepted();
                Ok(())
            }
            Step::Gate(rule) => {
                self.gate.as_ref().ok_or("the case has no gate")?.add(rule.clone());
                Ok(())
            }
            Step::OpenGate {} => {
                self.gate.as_ref().ok_or("the case has no gate")?.open();
                Ok(())
            }
            Step::Calls { .. } => self.check_calls(step).await,
            Step::Sleep { ms } => {
                sleep(Duration::from_millis(*ms)).await;
                Ok(())
            }
        }
    }

    async fn start_feed(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Follow { id, filter, raw_filter, start, refused, .. } => {
                let mut command = follow_command(step);
                command["filter"] = raw_filter.clone().unwrap_or_else(|| filter_json(filter));
                if command["store"] == "file" {
                    let path = self.node.path(&format!("{id}.position"));
                    command["store"] = format!("file:{}", path.display()).into();
                }
                let follower = self.follower(filter, start, &mut command).await?;
                let answer = self.driver.ask(command.clone()).await?;
                if *refused {
                    return match answer["event"] == "error" && answer["code"] == "INVALID_ARGUMENT" {
                        true => Ok(()),
                        false => fail(format!("not refused as INVALID_ARGUMENT: {answer}")),
                    };
                }
                if answer["event"] != "following" {
                    return fail(format!("not following: {answer}"));
                }
                self.followers.insert(id.clone(), follower);
                self.filters.insert(id.clone(), filter.clone());
                self.commands.insert(id.clone(), command);
                if let Start::Now = start {
                    self.start_now(id).await?;
                }
                Ok(())
            }
            Step::Mirror { id, filter } => {
                let command = json!({
                    "command": "mirror", "id": id, "filter": filter_json(filter), "checkpoint_interval_ms": 1_000,
                });
                let answer = self.driver.ask(command).await?;
                self.mirrors.insert(id.clone(), Mirror { filter: filter.clone() });
                if answer["event"] == "following" { Ok(()) } else { fail(format!("not following: {answer}")) }
            }
            Step::Restart { of } => {
                let command = self.commands.get(of).cloned().ok_or_else(|| format!("no follower {of}"))?;
                self.followers.get_mut(of).ok_or("no such follower")?.restart();
                let answer = self.driver.ask(command).await?;
                if answer["event"] == "following" { Ok(()) } else { fail(format!("not following: {answer}")) }
            }
            _ => {
                // The events that the driver has printed count as applied, whether or not they were read.
                for (id, events) in self.replace_driver().await? {
                    for event in events {
                        self.note(format!("event before the kill: {event}"));
                        if let Some(follower) = self.followers.get_mut(&id) {
                            follower.apply(&event, &self.commits)?;
                        }
                    }
                }
                Ok(())
            }
        }
    }

    /// Returns the model of a new follower, and sets the start of its command.
    async fn follower(&self, filter: &Filter, start: &Start, command: &mut Value) -> Outcome<Follower> {
        Ok(match start {
            Start::Snapshot => {
                command["start"] = "snapshot".into();
                Follower::with_snapshot()
            }
            Start::Now => {
                command["start"] = "now".into();
                let content = self.node.snapshot(&filter_message(filter)?).await?;
                Follower::with_content(content, None)
            }
            Start::After(other) => {
                let other = self.followers.get(other).ok_or_else(|| format!("no follower {other}"))?;
                let position = other.position.as_ref().ok_or("the other follower has no position")?;
                command["start"] = json!({ "after": position });
                Follower::with_content(other.content.clone(), Some(position))
            }
            Start::Raw(position) => {
                command["start"] = json!({"after": self.filled_in(position.clone())?});
                Follower::with_content(self.node.snapshot(&filter_message(filter)?).await?, None)
            }
        })
    }

    /// Waits until a follower has its first position, so that later writes come after its start.
    async fn start_now(&mut self, id: &str) -> Outcome {
        let started =
            |follower: &Follower, _: &Value| follower.position.is_some() || follower.error.is_some();
        match self.pump(id, Duration::from_secs(60), started).await? {
            Some(_) => Ok(()),
            None => fail(format!("{id} did not start")),
        }
    }

    async fn await_event(
        &mut self,
        of: &str,
        event: &str,
        values: &serde_json::Map<String, Value>,
        within_ms: u64,
    ) -> Outcome {
        let end = Instant::now() + Duration::from_millis(within_ms);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let is_meant = |_: &Follower, next: &Value| next["event"] == event || next["event"] == "error";
            match self.pump(of, left, is_meant).await? {
                None => return fail(format!("no event {event} of {of} within {within_ms} ms")),
                Some(next) if next["event"] == event && self.has_values(&next, values) => return Ok(()),
                Some(next) if next["event"] == "error" => {
                    return fail(format!("{of} has ended: {next}, expected {event} {values:?}"));
                }
                Some(_) => {}
            }
        }
    }

    fn check(&self, step: &Step) -> Outcome {
        let Step::Check { of, resets, snapshots, checkpoints, largest, name, operation, times } = step else {
            return Ok(());
        };
        let follower = self.followers.get(of).ok_or_else(|| format!("no follower {of}"))?;
        if let Some(resets) = resets
            && *resets != follower.resets
        {
            return fail(format!("the resets are {:?}, expected {resets:?}", follower.resets));
        }
        if let Some(snapshots) = snapshots
            && *snapshots != follower.snapshots
        {
            return fail(format!("{} snapshots, expected {snapshots}", follower.snapshots));
        }
        if let Some(least) = checkpoints
            && follower.checkpoints < *least
        {
            return fail(format!("{} checkpoints, expected {least} or more", follower.checkpoints));
        }
        if let Some(least) = largest
            && follower.largest < *least
        {
            return fail(format!("at most {} changes in one event, expected {least}", follower.largest));
        }
        if let Some(name) = name {
            let changes: Vec<_> = follower.changes.iter().filter(|(_, _, changed)| changed == name).collect();
            if let Some(operation) = operation
                && changes.last().is_none_or(|(_, last, _)| last != operation)
            {
                return fail(format!(
                    "the changes of {name} are {changes:?}, expected {operation} as the last"
                ));
            }
            if let Some(times) = times
                && changes.len() != *times
            {
                return fail(format!("the changes of {name} are {changes:?}, expected {times}"));
            }
        }
        Ok(())
    }

    async fn control(&mut self, step: &Step, of: &str) -> Outcome {
        match step {
            // The responses have the id of the follower and come between its events.
            Step::Pause { .. } | Step::Resume { .. } => {
                let (command, expected) = match step {
                    Step::Pause { .. } => ("pause", "paused"),
                    _ => ("resume", "resumed"),
                };
                self.driver.send(json!({"command": command, "id": of})).await?;
                loop {
                    let Some(event) = self.driver.next(of, NODE).await? else {
                        return fail(format!("no answer to {command}"));
                    };
                    self.note(format!("event: {event}"));
                    if event["event"] == expected {
                        return Ok(());
                    }
                    let follower = self.followers.get_mut(of).ok_or("no such follower")?;
                    follower.apply(&event, &self.commits)?;
                }
            }
            _ => {
                let answer = self.driver.ask(json!({"command": "stop", "of": of})).await?;
                if answer["event"] != "stopped" {
                    return fail(format!("not stopped: {answer}"));
                }
                while self.driver.has_event(of) {
                    let event = self.driver.next(of, POLL).await?.unwrap_or_default();
                    if let Some(follower) = self.followers.get_mut(of) {
                        follower.apply(&event, &self.commits)?;
                    }
                }
                self.mirrors.remove(of);
                if let Some(follower) = self.followers.get_mut(of) {
                    // It has ended, but its content and position can start another one.
                    follower.error = Some(json!("stopped"));
                }
                Ok(())
            }
        }
    }

    async fn call(&mut self, step: &Step) -> Outcome {
        let (id, background, expect, mut command) = match step {
            Step::Call { id, method, request, timeout_ms, background, expect } => {
                let mut command = json!({"command": "call", "method": method});
                command["request"] = self.filled_in(request.clone())?;
                if let Some(timeout) = timeout_ms {
                    command["timeout_ms"] = (*timeout).into();
                }
                (id, *background, expect, command)
            }
            Step::Read { id, what, request, max_pages, background, expect } => {
                let mut command = json!({"command": what});
                command["request"] = self.filled_in(request.clone())?;
                if let Some(pages) = max_pages {
                    command["max_pages"] = (*pages).into();
                }
                (id, *background, expect, command)
            }
            _ => return Ok(()),
        };
        if command["request"].is_null() {
            command["request"] = json!({});
        }
        let id = id.clone().unwrap_or_else(|| self.driver.new_id());
        command["id"] = id.clone().into();
        self.started.insert(id.clone(), Instant::now());
        self.driver.send(command).await?;
        if background { Ok(()) } else { self.finish(&id, expect).await }
    }

    async fn write(&mut self, step: &Step) -> Outcome {
        let client = self.node.client()?;
        let refused = |error: cable_client::Error| format!("the node refused a write of the suite: {error}");
        match step {
            Step::Publish { articles, prefix, tags, bytes, fill, headline, commit, import } => {
                let tags: Vec<String> = tags.iter().map(|tag| format!("tags/{tag}")).collect();
                let new: Vec<v1::Article> = (0..*articles)
                    .map(|n| article(&format!("articles/{prefix}{n}"), headline, &tags, *bytes, fill))
                    .collect();
                if *import {
                    let records: Vec<RawRecord> = new.into_iter().map(RawRecord::from).collect();
                    let import = client.import(stream::iter(records)).source("suite");
                    let _acks: Vec<_> = import.try_collect().await.map_err(refused)?;
                } else if *commit {
                    let outcome = client.commit().changes(new.into_iter().map(Change::put)).await;
                    self.remember(&outcome.map_err(refused)?);
                } else {
                    for article in new {
                        client.put(article).update_kind(UpdateKind::Major).await.map_err(refused)?;
                    }
                }
            }
            Step::Patch { articles, prefix, headline } => {
                let patch = |n: usize| {
                    let new = article(&format!("articles/{prefix}{n}"), headline, &[], 0, "");
                    Change::patch(new, ["headline"])
                };
                let outcome = client.commit().changes((0..*articles).map(patch)).await;
                self.remember(&outcome.map_err(refused)?);
            }
            Step::Remove { name, reason } => {
                let reason = RemovalReason::from_str_name(reason).ok_or("no such reason")?;
                client.remove(name, reason).await.map_err(refused)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn remember(&mut self, outcome: &cable_client::CommitOutcome) {
        let revisions = outcome.results.iter().filter(|result| result.changed).map(|result| result.revision);
        if let (Some(first), Some(last)) = (revisions.clone().min(), revisions.max()) {
            self.commits.push((first, last));
        }
    }

    async fn node_action(&mut self, action: &str) -> Outcome {
        match action {
            "start" => {
                self.node.start().await?;
                let address = self.node.address()?;
                let Some(gate) = &self.gate else {
                    self.proxy.set_upstream(address);
                    self.other.set_upstream(address);
                    return Ok(());
                };
                gate.set_upstream(address);
                Ok(())
            }
            "stop" => self.node.stop().await,
            "cont" => self.node.signal(Signal::CONT),
            "term" => self.node.signal(Signal::TERM),
            "kill" => {
                self.node.signal(Signal::KILL)?;
                self.node.wait().await
            }
            "wait" => self.node.wait().await,
            "backup" => self.node.back_up().await,
            "restore" => self.node.restore().await,
            other => fail(format!("unknown action {other}")),
        }
    }

    /// Creates and revokes tokens. The node accepts a new one, or refuses a revoked one, when the step ends.
    async fn change_tokens(
        &mut self,
        new: Option<&str>,
        expires: Option<&str>,
        revoke: Option<&str>,
        role: Option<&str>,
    ) -> Outcome {
        if let Some(name) = revoke {
            let token = self.tokens.get(name).cloned().ok_or_else(|| format!("no token of {name}"))?;
            self.node.revoke(name).await?;
            self.await_token(&token, false).await?;
        }
        if let Some(name) = new {
            let token = self.node.new_token(name, role.unwrap_or("publisher"), expires).await?;
            self.await_token(&token, true).await?;
            write_token(&self.node, &token)?;
            self.tokens.insert(name.to_owned(), token);
        }
        Ok(())
    }

    async fn await_token(&self, token: &str, accepted: bool) -> Outcome {
        let builder = cable_client::Cable::builder(format!("http://{}", self.node.address()?)).token(token);
        let client = builder.build().map_err(|error| error.to_string())?;
        let end = Instant::now() + NODE;
        while client.status().await.is_ok() != accepted {
            if Instant::now() > end {
                return fail(format!("the node did not learn of a token within {NODE:?}"));
            }
            sleep(5 * POLL).await;
        }
        Ok(())
    }

    /// A node compacts its history once a minute, what is older than a minute.
    async fn await_floor(&self, above: &str) -> Outcome {
        let above = self.variables.get(above).and_then(Value::as_i64).ok_or("no such variable")?;
        let end = Instant::now() + Duration::from_secs(200);
        loop {
            let status = self.node.client()?.status().await.map_err(|error| error.to_string())?;
            if status.oldest_revision > above {
                return Ok(());
            }
            if Instant::now() > end {
                return fail(format!("the history floor is at {}", status.oldest_revision));
            }
            sleep(10 * POLL).await;
        }
    }

    async fn check_calls(&self, step: &Step) -> Outcome {
        let Step::Calls { method, at_least, at_most, gap_ms, same_request_id, header, within_ms } = step
        else {
            return Ok(());
        };
        let gate = self.gate.as_ref().ok_or("the case has no gate")?;
        let end = Instant::now() + Duration::from_millis(*within_ms);
        while at_least.is_some_and(|least| gate.calls(method).len() < least) {
            if Instant::now() > end {
                return fail(format!(
                    "{} calls of {method}, expected {at_least:?}",
                    gate.calls(method).len()
                ));
            }
            sleep(POLL).await;
        }
        let calls = gate.calls(method);
        if at_most.is_some_and(|most| calls.len() > most) {
            return fail(format!("{} calls of {method}, expected at most {at_most:?}", calls.len()));
        }
        if let (Some(gap), [first, second, ..]) = (gap_ms, &calls[..])
            && second.at - first.at < Duration::from_millis(*gap)
        {
            return fail(format!(
                "the second call came after {:?}, not after {gap} ms",
                second.at - first.at
            ));
        }
        if let Some(field) = same_request_id {
            check_request_ids(&calls, *field)?;
        }
        match header {
            Some(header) if calls.iter().any(|call| !call.headers.contains_key(header)) => {
                fail(format!("a call of {method} has no header {header}"))
            }
            _ => Ok(()),
        }
    }

    /// Forgets the followers and mirrors, which the driver has stopped.
    pub(crate) async fn stop_all(&mut self) -> Outcome {
        let running: Vec<String> = self.followers.keys().chain(self.mirrors.keys()).cloned().collect();
        for of in running {
            if self.followers.get(&of).is_none_or(|follower| follower.error.is_none()) {
                Box::pin(self.step(&Step::Stop { of })).await?;
            }
        }
        self.followers.clear();
        self.commits.clear();
        self.proxy.set(Mode::Pass);
        Ok(())
    }
}

/// Returns the command of a follower without its filter and start.
fn follow_command(step: &Step) -> Value {
    let Step::Follow { id, reset, view, body_format, store, interval_ms, .. } = step else {
        return Value::Null;
    };
    let mut command = json!({
        "command": "follow", "id": id, "reset": reset, "include_backfill": true,
        "checkpoint_interval_ms": interval_ms,
    });
    for (member, value) in [("view", view), ("body_format", body_format), ("store", store)] {
        if let Some(value) = value {
            command[member] = value.clone().into();
        }
    }
    command
}

/// Checks that all messages have the same request id.
fn check_request_ids(calls: &[Call], field: u32) -> Outcome {
    let ids: Vec<Option<Vec<u8>>> = calls.iter().map(|call| bytes_field(&call.message, field)).collect();
    match ids.first() {
        Some(Some(first)) if !first.is_empty() && ids.iter().all(|id| id.as_ref() == Some(first)) => Ok(()),
        _ => {
            let ids: Vec<String> = ids
                .iter()
                .map(|id| String::from_utf8_lossy(id.as_deref().unwrap_or_default()).into_owned())
                .collect();
            fail(format!("the request ids are {ids:?}"))
        }
    }
}

/// Returns the last value of a field of bytes in an encoded message.
fn bytes_field(message: &[u8], field: u32) -> Option<Vec<u8>> {
    use prost::encoding::{DecodeContext, WireType, bytes, decode_key, skip_field};
    let mut rest = message;
    let mut found = None;
    while !rest.is_empty() {
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        if number == field && wire_type == WireType::LengthDelimited {
            let mut value = Vec::new();
            bytes::merge(wire_type, &mut value, &mut rest, DecodeContext::default()).ok()?;
            found = Some(value);
        } else {
            skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?;
        }
    }
    found
}
