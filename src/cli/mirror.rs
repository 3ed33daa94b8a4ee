//! `cable mirror`: writes all entities that match to a file, and updates it.

use std::{
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use cable_client::{Cable, MirrorSnapshot, View, v1};
use clap::Args;
use tokio::{
    signal::ctrl_c,
    time::{Instant, sleep_until},
};

use super::{
    Error,
    feed::{Filter, describe_damage, log_retry},
    note,
    replace::Replacement,
    unmatched,
};
use cable_import::jsonl::RecordJson;

/// Minimum time between two writes of the file.
const MIN_WRITE_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct Mirror {
    #[command(flatten)]
    filter: Filter,
    /// Exit once the file contains everything that matches, or with an error if no node serves it for as long as
    /// --timeout. Without this option, the command retries until one does.
    #[arg(long)]
    once: bool,
    /// File to write: one record per line as `cable export` writes them, sorted by name. It is replaced as a whole, at
    /// most once a second.
    file: PathBuf,
}

/// Runs the command.
pub(crate) async fn run(args: Mirror, cable: &Cable) -> Result<(), Error> {
    let hints = unmatched::report(args.filter.names(), cable);
    tokio::select! {
        _ = ctrl_c() => Ok(()),
        ended = async { tokio::try_join!(hints, update_file(args, cable)) } => ended.map(drop),
    }
}

async fn update_file(Mirror { filter, once, file }: Mirror, cable: &Cable) -> Result<(), Error> {
    let mut mirror = cable.mirror(filter.to_message()).view(View::Full).on_retry(log_retry());
    if once {
        mirror = mirror.max_outage(cable.timeout());
    }
    let mirror = mirror.start();
    mirror.ready().await?;
    let mut changed = mirror.watch();
    let mut damage = None;
    loop {
        let snapshot = mirror.snapshot();
        write(&file, &snapshot)?;
        if once {
            let position = snapshot.position.unwrap_or_default();
            let count = snapshot.entities.len();
            note(&format!(
                "{count} records as of revision {} of log {}",
                position.revision, position.log_id
            ))?;
            return check_complete(snapshot.damage.as_ref());
        }
        if damage != snapshot.damage {
            damage = snapshot.damage;
            check_complete(damage.as_ref()).or_else(|incomplete| note(&incomplete.to_string()))?;
        }
        let next_write = Instant::now() + MIN_WRITE_INTERVAL;
        changed.changed().await?;
        sleep_until(next_write).await;
    }
}

fn check_complete(damage: Option<&v1::Damage>) -> Result<(), Error> {
    damage.map_or(Ok(()), |damage| Err(Error::Incomplete(format!("incomplete: {}", describe_damage(damage)))))
}

fn write(file: &Path, snapshot: &MirrorSnapshot) -> Result<(), Error> {
    let replacement = Replacement::create(file)?;
    let json = RecordJson::new();
    let mut to = BufWriter::new(replacement);
    for entity in snapshot.entities.values() {
        let line = json.to_line(entity.to_record().as_bytes()).map_err(io::Error::other);
        let written = line.and_then(|(line, _)| writeln!(to, "{line}"));
        written.map_err(|source| Replacement::failed(file, source))?;
    }
    to.into_inner().map_err(|error| Replacement::failed(file, error.into_error()))?.commit()
}
