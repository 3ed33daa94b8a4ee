//! A driver: its process, the commands to it, and its events by the id of their command.

use std::{
    collections::{HashMap, VecDeque},
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::Notify,
    task::AbortHandle,
    time::timeout,
};

use crate::{Outcome, fail};

/// The time for a response that depends on the driver alone. A virtual machine on a busy machine starts slowly.
const ANSWER: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Events {
    /// The events that were not read yet, by the id of their command.
    queues: Mutex<HashMap<String, VecDeque<Value>>>,
    /// The problem that ended the output, or a line that is not an event.
    end: Mutex<Option<String>>,
    arrived: Notify,
}

/// A running driver. Dropping it kills it.
pub(crate) struct Driver {
    process: Child,
    input: Option<ChildStdin>,
    events: Arc<Events>,
    reader: AbortHandle,
    ids: AtomicU64,
    pub(crate) language: String,
    pub(crate) capabilities: Vec<String>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.reader.abort();
        self.kill_group();
    }
}

impl Driver {
    /// Starts the driver by a command line of the shell, and asks for its capabilities.
    pub(crate) async fn start(command: &str) -> Outcome<Driver> {
        let mut process = Command::new("sh")
            .args(["-c", command])
            // The shell may start other processes: they end together.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start the driver `{command}`: {error}"))?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return fail("the driver has no standard input or output");
        };
        let events = Arc::new(Events::default());
        let reading = Arc::clone(&events);
        let reader = tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            let end = loop {
                let line = match lines.next_line().await {
                    Ok(Some(line)) => line,
                    Ok(None) => break "the driver has closed its output".to_owned(),
                    Err(error) => break format!("the output of the driver cannot be read: {error}"),
                };
                let event = serde_json::from_str::<Value>(&line).ok();
                let Some((id, event)) =
                    event.and_then(|event| Some((event["id"].as_str()?.to_owned(), event)))
                else {
                    break format!("the driver printed a line that is not an event with an id: {line}");
                };
                lock(&reading.queues).entry(id).or_default().push_back(event);
                reading.arrived.notify_waiters();
            };
            *lock(&reading.end) = Some(end);
            reading.arrived.notify_waiters();
        })
        .abort_handle();
        let mut driver = Driver {
            process,
            input: Some(input),
            events,
            reader,
            ids: AtomicU64::new(0),
            language: String::new(),
            capabilities: Vec::new(),
        };
        let hello = driver.ask(json!({"command": "hello"})).await?;
        driver.language = hello["language"].as_str().unwrap_or("?").to_owned();
        driver.capabilities = serde_json::from_value(hello["capabilities"].clone())
            .map_err(|error| format!("hello without a list of capabilities: {error}"))?;
        Ok(driver)
    }

    /// Returns an id that no other command of the driver has.
    pub(crate) fn new_id(&self) -> String {
        format!("c{}", self.ids.fetch_add(1, Relaxed))
    }

    /// Sends a command. A command without an id gets a new one. Returns the id.
    pub(crate) async fn send(&mut self, mut command: Value) -> Outcome<String> {
        if command["id"].is_null() {
            command["id"] = self.new_id().into();
        }
        let id = command["id"].as_str().unwrap_or_default().to_owned();
        let line = format!("{command}\n");
        let Some(input) = &mut self.input else { return fail("the input of the driver is closed") };
        let written = timeout(ANSWER, input.write_all(line.as_bytes())).await;
        match written {
            Ok(Ok(())) => Ok(id),
            Ok(Err(error)) => fail(format!("the driver does not take commands: {error}")),
            Err(_) => fail(format!("the driver did not read a command within {ANSWER:?}")),
        }
    }

    /// Sends a command and returns its first event.
    pub(crate) async fn ask(&mut self, command: Value) -> Outcome<Value> {
        let id = self.send(command.clone()).await?;
        match self.next(&id, ANSWER).await? {
            Some(event) => Ok(event),
            None => fail(format!("no answer within {ANSWER:?} to {command}")),
        }
    }

    /// Returns the next event of a command, or `None` if none arrives in time.
    pub(crate) async fn next(&self, id: &str, within: Duration) -> Outcome<Option<Value>> {
        let wait = async {
            loop {
                let arrived = self.events.arrived.notified();
                tokio::pin!(arrived);
                arrived.as_mut().enable();
                if let Some(event) = lock(&self.events.queues).get_mut(id).and_then(VecDeque::pop_front) {
                    return Ok(Some(event));
                }
                if let Some(end) = lock(&self.events.end).clone() {
                    return fail(end);
                }
                arrived.await;
            }
        };
        timeout(within, wait).await.unwrap_or(Ok(None))
    }

    /// Returns whether an event of a command has arrived that was not read.
    pub(crate) fn has_event(&self, id: &str) -> bool {
        lock(&self.events.queues).get(id).is_some_and(|queue| !queue.is_empty())
    }

    /// Closes the input, and waits until the process has ended successfully.
    pub(crate) async fn end(mut self) -> Outcome {
        drop(self.input.take());
        match timeout(ANSWER, self.process.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => fail(format!("the driver ended with {status} at the end of its input")),
            Ok(Err(error)) => fail(format!("the driver cannot be awaited: {error}")),
            Err(_) => fail(format!("the driver did not end within {ANSWER:?} after its input")),
        }
    }

    /// Kills the process, waits for its end, and returns the events that were not read.
    pub(crate) async fn kill(mut self) -> Outcome<HashMap<String, VecDeque<Value>>> {
        self.kill_group();
        self.process.wait().await.map_err(|error| format!("the driver cannot be awaited: {error}"))?;
        let is_read = async {
            loop {
                let arrived = self.events.arrived.notified();
                tokio::pin!(arrived);
                arrived.as_mut().enable();
                if lock(&self.events.end).is_some() {
                    return;
                }
                arrived.await;
            }
        };
        // A process that the driver has started may hold the output open.
        let _incomplete = timeout(ANSWER, is_read).await;
        Ok(std::mem::take(&mut lock(&self.events.queues)))
    }

    fn kill_group(&self) {
        let pid = self.process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            let _already_ended = kill_process_group(pid, Signal::KILL);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
