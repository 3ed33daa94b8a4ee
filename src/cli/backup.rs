//! `cable backup` and `cable verify`: copy and verify a store, also while a node serves it.

use std::path::{Path, PathBuf};

use cable::admin::{self, Incoming, Verified};
use cable_client::Cable;
use clap::Args;
use futures_util::StreamExt as _;
use indicatif::ProgressBar;

use super::{Error, WithService, note, output::Output, progress, runtime, serve::Data};

#[derive(Debug, Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    data: Data,
    /// File of the backup. It replaces an older backup or an empty file, once it is complete and verified, but no other
    /// file. `cable restore` creates a store from it.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    data: Data,
}

/// Runs `cable backup`: copies the store, verifies the copy, and only then gives it its name. The store is that of a
/// directory, unless options select a service: a variable of the environment or a current context must not turn the
/// backup of one store into that of another.
pub(crate) fn backup(command: WithService<Backup>, output: &mut Output) -> Result<(), Error> {
    let WithService { args: Backup { data, to }, service } = command;
    let verified = match service.is_selected() {
        true if data.is_given() => {
            let problem = "--data and --config select a store on this machine, --endpoint and --context a service: \
                           give one of them";
            return Err(Error::Usage(problem.to_owned()));
        }
        true => runtime()?.block_on(Box::pin(of_service(&service.client()?, &to)))?,
        false if service.has_options() => {
            let problem =
                "backs up a store on this machine: to back up that of a service, add --endpoint or --context";
            return Err(Error::Usage(problem.to_owned()));
        }
        false => of_directory(data, &to)?,
    };
    output.text(&format!("{}: {verified}", to.display()))
}

fn of_directory(data: Data, to: &Path) -> Result<Verified, Error> {
    let dir = data.dir()?;
    let verified = progress::of_phases(|on_phase| admin::backup(&dir, to, on_phase))
        .map_err(Error::of_selected_store)?;
    if let Err(error) = admin::mark_backup(&dir) {
        note(&format!("the metric of the last backup remains as it was: {}: {error}", dir.display()))?;
    }
    Ok(verified)
}

async fn of_service(cable: &Cable, to: &Path) -> Result<Verified, Error> {
    let incoming = Incoming::create(to)?;
    let bar = progress::bar();
    bar.set_message("the node copies its store");
    let received = receive(cable, incoming, &bar).await;
    bar.finish_and_clear();
    received
}

async fn receive(cable: &Cable, mut incoming: Incoming, bar: &ProgressBar) -> Result<Verified, Error> {
    let mut backup = cable.backup().await?;
    progress::set_total_bytes(bar, backup.manifest().bytes.unsigned_abs());
    bar.set_message("receiving");
    while let Some(bytes) = backup.next().await {
        let bytes = bytes?;
        incoming.write(&bytes)?;
        bar.inc(bytes.len() as u64);
    }
    let sha256 = backup.end().map(|end| end.sha256.clone()).unwrap_or_default();
    Ok(incoming.finish(&sha256, |phase| bar.set_message(phase))?)
}

/// Runs `cable verify`.
pub(crate) fn verify(Verify { data }: Verify, output: &mut Output) -> Result<(), Error> {
    let dir = data.dir()?;
    let verified = progress::of_phases(|on_phase| {
        on_phase("verifying the store");
        admin::verify(&dir)
    })
    .map_err(Error::of_selected_store)?;
    output.text(&format!("{}: {verified}", dir.display()))
}
