//! Followers and mirrors.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use cable_client::{
    BodyFormat, Cable, Delivery, Event, FeedBuilder, FeedFilter, FilePosition, Mirror, NameState, Position,
    PositionStore, ResetReason, View,
};
use cable_conformance::identify;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    Failure, describe, emit, emit_failure,
    json::{decode, encode},
    lock, millis,
};

/// The followers and mirrors of this driver by the id of their command.
pub(crate) type Feeds = Arc<Mutex<HashMap<String, Running>>>;

pub(crate) enum Running {
    Follower { paused: watch::Sender<bool>, task: JoinHandle<()> },
    Mirror { mirror: Mirror, task: JoinHandle<()> },
}

/// A store for one process. The position does not survive it.
#[derive(Default)]
struct Memory(Mutex<Option<Position>>);

impl PositionStore for Memory {
    fn load(&self) -> io::Result<Option<Position>> {
        Ok(lock(&self.0).clone())
    }

    fn save(&self, position: &Position) -> io::Result<()> {
        *lock(&self.0) = Some(position.clone());
        Ok(())
    }
}

pub(crate) fn start(name: &str, id: String, cable: &Cable, command: &Value, feeds: &Feeds) {
    let started = match name {
        "mirror" => start_mirror(&id, cable, command),
        _ => start_follower(&id, cable, command),
    };
    match started {
        Ok(running) => _ = lock(feeds).insert(id, running),
        Err(failure) => emit_failure(&id, &failure),
    }
}

fn filter(command: &Value) -> Result<FeedFilter, Failure> {
    match &command["filter"] {
        Value::Null => Ok(FeedFilter::default()),
        filter => Ok(decode(filter)?),
    }
}

fn view(command: &Value) -> Result<Option<View>, Failure> {
    let Some(name) = command["view"].as_str() else { return Ok(None) };
    View::from_str_name(name).map(Some).ok_or_else(|| format!("unknown view {name}").into())
}

fn start_mirror(id: &str, cable: &Cable, command: &Value) -> Result<Running, Failure> {
    let mut builder = cable.mirror(filter(command)?);
    if let Some(view) = view(command)? {
        builder = builder.view(view);
    }
    if let Some(interval) = millis(&command["checkpoint_interval_ms"]) {
        builder = builder.checkpoint_interval(interval);
    }
    let retried = id.to_owned();
    // The first retry of the mirror comes after this event.
    emit(id, "following", json!({}));
    let mirror =
        builder.on_retry(move |error| emit(&retried, "retry", json!({"error": error.to_string()}))).start();
    let (id, waiting) = (id.to_owned(), mirror.clone());
    let task = tokio::spawn(async move {
        let mut changes = waiting.watch();
        match waiting.ready().await {
            Ok(()) => emit(&id, "ready", json!({})),
            Err(error) => return emit_failure(&id, &error.into()),
        }
        loop {
            if let Err(error) = changes.changed().await {
                return emit_failure(&id, &error.into());
            }
        }
    });
    Ok(Running::Mirror { mirror, task })
}

fn start_follower(id: &str, cable: &Cable, command: &Value) -> Result<Running, Failure> {
    let mut builder = cable.feed(filter(command)?).allow_reset(command["reset"].as_bool().unwrap_or(false));
    builder = match &command["start"] {
        Value::String(start) if start == "snapshot" => builder.with_snapshot(),
        Value::Object(start) => builder.after(decode::<Position>(&start["after"])?),
        _ => builder.from_now(),
    };
    if let Some(view) = view(command)? {
        builder = builder.view(view);
    }
    if let Some(format) = command["body_format"].as_str() {
        let format = BodyFormat::from_str_name(format).ok_or_else(|| format!("unknown format {format}"))?;
        builder = builder.body_format(format);
    }
    if command["include_backfill"].as_bool().unwrap_or(false) {
        builder = builder.include_backfill();
    }
    if let Some(interval) = millis(&command["checkpoint_interval_ms"]) {
        builder = builder.checkpoint_interval(interval);
    }
    builder = match command["store"].as_str().map(|store| store.split_once(':').unwrap_or((store, ""))) {
        None => builder,
        Some(("file", path)) => builder.save_to(FilePosition::new(path)),
        Some(("memory", _)) => builder.save_to(Memory::default()),
        Some((other, _)) => return Err(format!("unknown store {other}").into()),
    };
    emit(id, "following", json!({}));
    let (paused, pauses) = watch::channel(false);
    let task = tokio::spawn(follow(id.to_owned(), builder, pauses));
    Ok(Running::Follower { paused, task })
}

/// Reports each delivery. While paused, it requests no further one: the last one is not applied yet.
async fn follow(id: String, builder: FeedBuilder, mut pauses: watch::Receiver<bool>) {
    let retried = id.clone();
    let retry = move |error: &cable_client::Error| {
        emit(&retried, "retry", json!({"error": error.to_string()}));
    };
    let mut feed = builder.on_retry(retry).open();
    while let Some(delivery) = feed.next().await {
        match delivery.map_err(Failure::from).and_then(|delivery| report(&id, delivery)) {
            Ok(()) => {}
            Err(failure) => return emit_failure(&id, &failure),
        }
        if pauses.wait_for(|paused| !paused).await.is_err() {
            return;
        }
    }
}

fn report(id: &str, Delivery { position, event, .. }: Delivery) -> Result<(), Failure> {
    let position = position.map(|position| encode(&position)).transpose()?;
    match event {
        Event::Changes(changes) => {
            let changes: Vec<Value> = changes
                .into_iter()
                .map(|change| {
                    let mut described = json!({"revision": change.revision, "name": change.name});
                    described["op"] = match &change.state {
                        NameState::Upsert(record) => {
                            described["etag"] = identify(record).map(|record| record.etag).into();
                            "upsert"
                        }
                        NameState::Left => "left",
                        NameState::Removed(_) => "removed",
                        NameState::Unreadable => "unreadable",
                        _ => "unknown",
                    }
                    .into();
                    described
                })
                .collect();
            emit(id, "changes", json!({"position": position, "changes": changes}));
        }
        Event::Snapshot(records) => {
            let records: Vec<Value> = records
                .iter()
                .filter_map(identify)
                .map(|r| json!({"name": r.name, "etag": r.etag, "revision": r.revision}))
                .collect();
            emit(id, "snapshot", json!({ "records": records }));
        }
        Event::SnapshotEnd { count, .. } => {
            emit(id, "snapshot_end", json!({"position": position, "count": count}));
        }
        Event::Checkpoint { behind } => {
            emit(id, "checkpoint", json!({"position": position, "behind": behind}));
        }
        Event::Reset(reason) => {
            let reason = match reason {
                ResetReason::Compacted => "COMPACTED",
                ResetReason::LogChanged => "LOG_CHANGED",
                ResetReason::SnapshotBroken => "SNAPSHOT_BROKEN",
                _ => "OTHER",
            };
            emit(id, "reset", json!({ "reason": reason }));
        }
        _ => {}
    }
    Ok(())
}

pub(crate) fn control(name: &str, id: &str, command: &Value, feeds: &Feeds) {
    let of = command["of"].as_str().unwrap_or(id);
    let mut feeds = lock(feeds);
    match (name, feeds.get(of)) {
        ("pause", Some(Running::Follower { paused, .. })) => {
            paused.send_replace(true);
            emit(id, "paused", json!({}));
        }
        ("resume", Some(Running::Follower { paused, .. })) => {
            emit(id, "resumed", json!({}));
            paused.send_replace(false);
        }
        ("state", Some(Running::Mirror { mirror, .. })) => match state(mirror) {
            Ok(state) => emit(id, "state", state),
            Err(failure) => emit(id, "error", describe(&failure)),
        },
        ("stop", Some(_)) => {
            let Some(Running::Follower { task, .. } | Running::Mirror { task, .. }) = feeds.remove(of) else {
                return;
            };
            task.abort();
            let id = id.to_owned();
            tokio::spawn(async move {
                // Nothing of the follower comes after this event.
                let _aborted = task.await;
                emit(&id, "stopped", json!({}));
            });
        }
        _ => emit_failure(id, &Failure::Argument(format!("{name}: nothing such runs as {of}"))),
    }
}

fn state(mirror: &Mirror) -> Result<Value, Failure> {
    let snapshot = mirror.snapshot();
    let position = snapshot.position.as_ref().map(encode).transpose()?;
    let items: Vec<Value> = snapshot
        .entities
        .values()
        .filter_map(|entity| identify(&entity.to_record()))
        .map(|r| json!({"name": r.name, "etag": r.etag, "revision": r.revision}))
        .collect();
    Ok(json!({"position": position, "items": items}))
}
