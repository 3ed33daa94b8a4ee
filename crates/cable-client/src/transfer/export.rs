//! Exports: all records of a store in log order.
//!
//! A message carries the revision of its last record. After a lost connection, a new call resumes after that revision,
//! and the count in the closing message then covers that call alone.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{Stream, StreamExt as _, stream};

use super::TransferCall;
use crate::{
    Cable, Error, RawRecord, Result, Retry,
    list::{Exclusive, ResultStream},
    v1::{ExportEnd, ExportRequest, ExportResponse, Freshness, Position},
};

impl Cable {
    /// Exports all live versions and all tombstones in log order, and on request all pending versions;
    /// [`records`](Export::records) returns the stream.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use futures_util::TryStreamExt as _;
    ///
    /// let mut records = cable.export().records();
    /// while let Some(record) = records.try_next().await? {
    ///     println!("{}: {} bytes", record.name()?, record.as_bytes().len());
    /// }
    /// println!("complete up to {}", records.position());
    /// # Ok(())
    /// # }
    /// ```
    pub fn export(&self) -> Export {
        Export { cable: self.clone(), request: ExportRequest::default() }
    }
}

/// A call that exports a store; [`records`](Export::records) returns the stream. See [`Cable::export`].
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use futures_util::TryStreamExt as _;
///
/// # let saved = cable_client::Position::default();
/// let mut records = cable.export().after(&saved).records();
/// while let Some(record) = records.try_next().await? {
///     println!("{}", record.name()?);
/// }
/// let end = records.end().map(|end| &end.content_digest);
/// println!("content digest {end:?}, complete up to {}", records.position());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless their stream is polled"]
pub struct Export {
    cable: Cable,
    request: ExportRequest,
}

impl Export {
    /// Resumes after the last [`Position`] of an interrupted export, or after a revision of any log that the server
    /// has.
    pub fn after(mut self, position: impl Into<Freshness>) -> Self {
        let Freshness { at_least_revision, log_id, .. } = position.into();
        self.request = ExportRequest { after_revision: at_least_revision, log_id, ..self.request };
        self
    }

    /// Includes pending versions. They must not become public before their time.
    pub fn include_pending(mut self) -> Self {
        self.request.include_pending = true;
        self
    }

    /// Returns the stream of records. A name that changes during the export is sent again: of two records of one version,
    /// the later one is valid.
    pub fn records(self) -> RecordStream {
        let Export { cable, request } = self;
        let last = Position {
            revision: request.after_revision,
            log_id: request.log_id.clone(),
            ..Position::default()
        };
        RecordStream {
            parts: Exclusive::new(parts(cable, request)),
            records: VecDeque::new(),
            received: last.clone(),
            consumed: last,
            end: None,
            incomplete: None,
            done: false,
        }
    }
}

/// A stream of exported records that ends without an error only if it is complete.
///
/// It resumes automatically after a lost connection. Any failure that a retry does not resolve is an error. If the
/// server cannot read some records, the last item is an error ([`ErrorKind::DataLoss`](crate::ErrorKind::DataLoss)).
#[must_use = "streams do nothing unless polled"]
pub struct RecordStream {
    parts: Exclusive<ResultStream<ExportPart>>,
    records: VecDeque<RawRecord>,
    /// The position of the last received record.
    received: Position,
    /// The position of the last message of which all records were taken.
    consumed: Position,
    end: Option<ExportEnd>,
    /// The error if the server cannot read some of the records.
    incomplete: Option<Error>,
    done: bool,
}

impl fmt::Debug for RecordStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordStream")
            .field("consumed", &self.consumed)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl RecordStream {
    /// Returns the server's closing message: the head that the export reached, and the content digest there. Its count
    /// covers only the records since the last connection was made. `None` before the end.
    #[must_use]
    pub fn end(&self) -> Option<&ExportEnd> {
        self.end.as_ref()
    }

    /// Returns the position to resume [`after`](Export::after) if the export is interrupted here. Some of the last
    /// records may then be sent again.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.consumed
    }

    /// Takes the records and the damage of a message.
    fn accept(&mut self, part: ExportPart) {
        let ExportPart { message, log_id } = part;
        self.received.log_id = log_id.as_ref().into();
        if !message.records.is_empty() {
            self.received.revision = message.last_revision;
        }
        self.records.extend(message.records);
        let damage = message.end.as_ref().and_then(|end| end.damage.as_ref());
        self.incomplete = damage.map(Error::incomplete);
        self.end = message.end;
    }
}

impl Stream for RecordStream {
    type Item = Result<RawRecord>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(record) = self.records.pop_front() {
                if self.records.is_empty() {
                    self.consumed = self.received.clone();
                }
                return Poll::Ready(Some(Ok(record)));
            }
            if self.done {
                return Poll::Ready(None);
            }
            match ready!(self.parts.get_mut().poll_next_unpin(cx)) {
                Some(Ok(part)) => self.accept(part),
                Some(Err(error)) => {
                    self.done = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.done = true;
                    return Poll::Ready(self.incomplete.take().map(Err));
                }
            }
        }
    }
}

/// The state of a running export.
struct ExportState {
    cable: Cable,
    request: ExportRequest,
    call: TransferCall<ExportResponse>,
    /// The number of records received in the current call.
    received: i64,
    ended: bool,
}

impl ExportState {
    /// Returns the next message of the current call, which is made first if there is none.
    async fn next(&mut self) -> Result<ExportResponse> {
        if self.request.log_id.is_empty() {
            // A resumed call needs the log id of its revision, which only the closing message of an export contains.
            let head = self.cable.status().await?.head.unwrap_or_default();
            self.request.log_id = head.log_id;
        }
        let messages = match &mut self.call.responses {
            Some(messages) => messages,
            None => {
                self.received = 0;
                let opened = self.cable.open(|| self.request.clone(), None, &Retry::none()).await?;
                self.call.opened(opened)
            }
        };
        let truncated = || Error::truncated("export ended without its closing message");
        messages.next().await.ok_or_else(truncated)?
    }

    /// Records the progress of the export, and checks the server's closing message.
    fn record_progress(&mut self, message: &ExportResponse) -> Result<()> {
        self.call.failures = 0;
        self.received += message.records.len() as i64;
        if !message.records.is_empty() {
            self.request.after_revision = message.last_revision;
        }
        let Some(end) = &message.end else { return Ok(()) };
        self.ended = true;
        if end.count != self.received {
            let message = format!("{} records received instead of {}", self.received, end.count);
            return Err(Error::truncated(message));
        }
        if end.position.as_ref().is_some_and(|position| position.log_id != self.request.log_id) {
            return Err(Error::truncated("log changed during the export"));
        }
        Ok(())
    }
}

/// One message of an export, with the id of its log.
struct ExportPart {
    message: ExportResponse,
    log_id: Arc<str>,
}

/// Returns the messages of an export across calls.
fn parts(cable: Cable, request: ExportRequest) -> ResultStream<ExportPart> {
    let export = ExportState { cable, request, call: TransferCall::default(), received: 0, ended: false };
    stream::try_unfold(export, |mut export| async move {
        if export.ended {
            return Ok(None);
        }
        loop {
            match export.next().await {
                Ok(message) => {
                    export.record_progress(&message)?;
                    let log_id = export.request.log_id.as_str().into();
                    return Ok(Some((ExportPart { message, log_id }, export)));
                }
                Err(error) => export.call.recover(&export.cable, error).await?,
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, v1};

    fn record(id: usize, bytes: usize) -> RawRecord {
        let name = format!("articles/{id}");
        v1::Article { name, dek: "x".repeat(bytes), ..Default::default() }.into()
    }

    fn export_state() -> ExportState {
        let cable = Cable::builder("http://127.0.0.1:1").build().unwrap();
        let request = ExportRequest { log_id: "0123abcd".into(), ..Default::default() };
        ExportState { cable, request, call: TransferCall::default(), received: 0, ended: false }
    }

    fn end(count: i64, log_id: &str) -> ExportResponse {
        let position = Some(Position { log_id: log_id.into(), revision: 9, ..Default::default() });
        ExportResponse {
            end: Some(ExportEnd { count, position, ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn an_export_resumes_after_the_last_received_message() {
        let mut export = export_state();
        export
            .record_progress(&ExportResponse { records: vec![record(1, 1)], last_revision: 7, end: None })
            .unwrap();
        assert_eq!(export.request.after_revision, 7);
        export.record_progress(&end(1, "0123abcd")).unwrap();
        assert_eq!((export.request.after_revision, export.ended), (7, true));
    }

    #[test]
    fn an_export_with_a_wrong_count_or_log_is_truncated() {
        assert_eq!(
            export_state().record_progress(&end(1, "0123abcd")).unwrap_err().kind(),
            ErrorKind::Truncated
        );
        assert_eq!(
            export_state().record_progress(&end(0, "ffffffff")).unwrap_err().kind(),
            ErrorKind::Truncated
        );
    }
}
