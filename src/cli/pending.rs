//! `cable article pending`: prints and cancels versions that are not yet due.

use cable_client::{Cable, ErrorKind, v1::ArticleView};
use clap::Args;
use futures_util::StreamExt as _;

use super::{
    Error,
    article::{self, Shape},
    noun,
    nouns::PENDING,
    output::{Entity, Output},
};

/// The server's limit on a page.
const MAX_PAGE_SIZE: u32 = 1_000;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print the pending version of an article.
    Get(Get),
    /// Print all pending versions, the next one due first.
    Ls,
    /// Cancel a pending version; the version that readers see is unchanged.
    Rm(Remove),
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Id of the article.
    id: String,
    #[command(flatten)]
    shape: Shape,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Id of the article.
    id: String,
    /// Etag of the pending version that must still be current.
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
    /// Request id that makes a repetition of this command within 24 hours harmless.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(command: Command, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Get(Get { id, shape }) => {
            let (view, format) = article::requested(&shape, output);
            let pending = cable.pending(id).view(view).body_format(format).await?;
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
            noun::print_result(&noun::write_result(&call.await?), "cancelled", output)
        }
    }
}

async fn list(cable: &Cable, output: &mut Output) -> Result<(), Error> {
    let mut versions = cable.list_pending().page_size(MAX_PAGE_SIZE).view(ArticleView::Basic).items();
    let mut listing = output.list(&PENDING);
    let mut incomplete = Ok(());
    while let Some(version) = versions.next().await {
        match version {
            Ok(version) => listing.push(&Entity::new(&PENDING, &version))?,
            // This is the last item; those before it are valid.
            Err(error) if error.kind() == ErrorKind::DataLoss => incomplete = Err(error),
            Err(error) => return Err(error.into()),
        }
    }
    listing.finish()?;
    Ok(incomplete?)
}
