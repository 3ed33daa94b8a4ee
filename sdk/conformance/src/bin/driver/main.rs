//! The driver of the Rust client: commands as JSON lines on standard input, events as JSON lines on standard output.

mod calls;
mod feeds;
mod json;

use std::{
    collections::HashMap,
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cable_client::{Cable, Error, ErrorKind, Token};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::feeds::Feeds;

const CAPABILITIES: [&str; 9] =
    ["call", "pages", "stream", "follow", "mirror", "token", "token_file", "store_file", "endpoints"];

/// The reason why a command cannot be carried out.
pub(crate) enum Failure {
    /// An argument that the client has no type for.
    Argument(String),
    /// An error of the client.
    Client(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Client(error)
    }
}

impl From<String> for Failure {
    fn from(problem: String) -> Self {
        Failure::Argument(problem)
    }
}

/// Writes an event of a command. A runner that is gone does not read it.
pub(crate) fn emit(id: &str, event: &str, mut members: Value) {
    members["event"] = event.into();
    members["id"] = id.into();
    let _runner_is_gone = writeln!(std::io::stdout().lock(), "{members}");
}

/// Writes the error that ends a command.
pub(crate) fn emit_failure(id: &str, failure: &Failure) {
    emit(id, "error", describe(failure));
}

pub(crate) fn describe(failure: &Failure) -> Value {
    match failure {
        Failure::Argument(problem) => json!({
            "code": "INVALID_ARGUMENT", "reason": null, "field": null, "retryable": false,
            "may_have_applied": false, "message": problem,
        }),
        Failure::Client(error) => {
            let code = error.code_and_reason();
            let (code, reason) = code.split_once(' ').map_or((&code[..], None), |(c, r)| (c, Some(r)));
            let code = if error.kind() == ErrorKind::Config { "INVALID_ARGUMENT" } else { code };
            json!({
                "code": code, "reason": reason,
                "field": error.violations().first().map(|violation| &violation.field),
                "retryable": error.is_retryable(), "may_have_applied": error.may_have_applied(),
                "message": error.to_string(),
            })
        }
    }
}

#[tokio::main]
async fn main() {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut client = None;
    let feeds = Arc::new(Mutex::new(HashMap::new()));
    while let Ok(Some(line)) = lines.next_line().await {
        let command: Value = match serde_json::from_str(&line) {
            Ok(command) => command,
            Err(error) => {
                eprintln!("not a command: {error}: {line}");
                continue;
            }
        };
        run(&command, &mut client, &feeds);
    }
    // The end of the input ends the driver, whatever is in flight.
    std::process::exit(0);
}

fn run(command: &Value, client: &mut Option<Cable>, feeds: &Feeds) {
    let id = command["id"].as_str().unwrap_or_default().to_owned();
    match (command["command"].as_str().unwrap_or_default(), &client) {
        ("hello", _) => emit(
            &id,
            "hello",
            json!({"language": "rust", "sdk": env!("CARGO_PKG_VERSION"), "capabilities": CAPABILITIES}),
        ),
        ("connect", _) => match connect(command) {
            Ok(cable) => {
                *client = Some(cable);
                emit(&id, "connected", json!({}));
            }
            Err(failure) => emit_failure(&id, &failure),
        },
        (name, Some(cable)) => {
            let (name, cable, command, feeds) =
                (name.to_owned(), cable.clone(), command.clone(), Arc::clone(feeds));
            match &name[..] {
                // Later commands depend on these: they are carried out in order.
                "follow" | "mirror" => feeds::start(&name, id, &cable, &command, &feeds),
                "pause" | "resume" | "state" | "stop" => feeds::control(&name, &id, &command, &feeds),
                _ => {
                    _ = tokio::spawn(async move {
                        if let Err(failure) = calls::run(&name, &id, &cable, &command).await {
                            emit_failure(&id, &failure);
                        }
                    })
                }
            }
        }
        (name, None) => emit_failure(&id, &Failure::Argument(format!("{name} before connect"))),
    }
}

fn connect(command: &Value) -> Result<Cable, Failure> {
    let endpoints: Vec<String> =
        serde_json::from_value(command["endpoints"].clone()).map_err(|error| error.to_string())?;
    let mut builder = Cable::builder(endpoints);
    if let Some(timeout) = millis(&command["timeout_ms"]) {
        builder = builder.timeout(timeout);
    }
    if let Some(token) = command["token"].as_str() {
        builder = builder.token(token);
    }
    if let Some(path) = command["token_file"].as_str() {
        builder = builder.token(Token::file(path));
    }
    Ok(builder.build()?)
}

pub(crate) fn millis(value: &Value) -> Option<Duration> {
    value.as_u64().map(Duration::from_millis)
}

/// Locks a value of which a panic elsewhere does not matter.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
