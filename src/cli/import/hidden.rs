//! Articles that an earlier import made, and that their source does not show any more: those that are live are reported,
//! and nothing is removed. An editor decides.

use cable_client::{Cable, View};

use super::outcomes::SharedLog;
use crate::cli::Error;

/// Names in one look at the server: those of one call.
const NAMES: usize = 500;

/// Looks up the articles that the source does not show, and adds those that are live to the log.
pub(super) async fn report(cable: &Cable, log: &SharedLog) -> Result<(), Error> {
    let hidden = log.lock().take_hidden();
    for names in hidden.chunks(NAMES) {
        let found = cable.articles(names).view(View::Reference).await?;
        let mut log = log.lock();
        for article in found.found() {
            log.add_still_live(&article.name);
        }
    }
    Ok(())
}
