//! Imports and exports of whole stores. Both resume automatically after a lost connection.

use tokio::time::sleep;

use crate::{Cable, Error, Result, list::ResultStream};

mod export;
mod import;

pub use export::{Export, RecordStream};
pub use import::{Import, ImportAck};

/// The current call of a transfer, and the number of failures since a call last made progress.
struct TransferCall<M> {
    responses: Option<ResultStream<M>>,
    failures: u32,
}

impl<M> Default for TransferCall<M> {
    fn default() -> Self {
        TransferCall { responses: None, failures: 0 }
    }
}

impl<M> TransferCall<M> {
    /// Waits before the next attempt, or returns the error if no attempt is left.
    async fn recover(&mut self, cable: &Cable, error: Error) -> Result<()> {
        self.responses = None;
        self.failures += 1;
        let Some(wait) = cable.shared.retry.for_transfer().wait(self.failures, &error) else {
            return Err(error);
        };
        sleep(wait).await;
        Ok(())
    }
}
