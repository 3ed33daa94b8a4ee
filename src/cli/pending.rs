//! `cable article pending`: versions whose time has not come.

use cable_client::{Cable, Kind, v1::ArticleView};
use clap::Args;
use futures_util::StreamExt as _;

use super::{
    Error,
    article::{self, Shape},
    noun,
    output::{Entity, Output, PENDING},
};

/// The server's own bound on a page.
const PAGE: u32 = 1_000;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print the pending version of an article.
    Get(Get),
    /// Print all pending versions, the one that is due next first.
    Ls,
    /// Take a pending version back; what readers see stays.
    Rm(Remove),
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Its id.
    id: String,
    #[command(flatten)]
    shape: Shape,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Its id.
    id: String,
    /// Only if the etag of the pending version is still this one.
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
    /// Makes a repeat of this command within 24 hours harmless.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(command: Command, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Get(Get { id, shape }) => {
            let (view, format) = article::wanted(&shape, output);
            let pending = cable.pending(id).view(view).format(format).await?;
            article::print(&pending.article.unwrap_or_default(), &shape, output)
        }
        Command::Ls => list(cable, output).await,
        Command::Rm(remove) => {
            let mut call = cable.remove_pending(remove.id);
            if let Some(etag) = remove.etag {
                call = call.if_etag(etag);
            }
            if let Some(id) = remove.request_id {
                call = call.request_id(id);
            }
            noun::written(&call.await?, "taken back", output)
        }
    }
}

async fn list(cable: &Cable, output: &mut Output) -> Result<(), Error> {
    let mut versions = cable.list_pending().page_size(PAGE).view(ArticleView::Basic).items();
    let mut listing = output.list(&PENDING);
    let mut incomplete = Ok(());
    while let Some(version) = versions.next().await {
        match version {
            Ok(version) => listing.push(&Entity::new(&PENDING, &version))?,
            // It is the last one: what was received stands.
            Err(error) if error.kind() == Kind::DataLoss => incomplete = Err(error),
            Err(error) => return Err(error.into()),
        }
    }
    listing.finish()?;
    Ok(incomplete?)
}
