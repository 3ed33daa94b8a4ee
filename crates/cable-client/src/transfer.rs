//! Imports and exports of whole stores. Both resume automatically after a lost connection.

use tokio::time::sleep;
use tonic::Streaming;

use crate::{
    Cable, Error, Result,
    list::{ResultStream, messages},
    pool::NodeGuard,
};

mod export;
mod import;

pub use export::{Export, RecordStream};
pub use import::{Import, ImportAck};

/// The current call of a transfer, and the number of failures since a call last made progress.
struct TransferCall<M> {
    responses: Option<ResultStream<M>>,
    /// The number of the token that the call sent.
    token_number: u64,
    failures: u32,
}

impl<M> Default for TransferCall<M> {
    fn default() -> Self {
        TransferCall { responses: None, token_number: 0, failures: 0 }
    }
}

impl<M: Send + 'static> TransferCall<M> {
    /// Sets the stream of a call that was opened, and returns it.
    fn opened(&mut self, (responses, node): (Streaming<M>, NodeGuard)) -> &mut ResultStream<M> {
        self.token_number = node.token_number;
        self.responses.insert(messages((responses, node)))
    }

    /// Waits before the next attempt, or returns the error if no attempt is left. If the token was refused after the call
    /// was opened, another one is tried once.
    async fn recover(&mut self, cable: &Cable, error: Error) -> Result<()> {
        let was_open = self.responses.take().is_some();
        self.failures += 1;
        if was_open && self.failures == 1 && cable.replace_token(self.token_number, &error).await {
            return Ok(());
        }
        let Some(wait) = cable.shared.retry.for_transfer().wait(self.failures, &error) else {
            return Err(error);
        };
        sleep(wait).await;
        Ok(())
    }
}
