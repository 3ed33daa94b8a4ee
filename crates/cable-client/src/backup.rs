//! Backups of the store of a node, for admins.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use crate::{
    Cable, Error, Result,
    list::{ResultStream, messages},
    read::malformed_response,
    v1::{BackupEnd, BackupManifest, BackupRequest, BackupResponse, backup_response::Part},
};

impl Cable {
    /// Backs up the store of one node while it serves, and returns the stream of the bytes of the backup, from which
    /// `cable restore` creates a store. It needs a token with the role admin.
    ///
    /// The node first copies its store, which takes as long as reading and writing the database once; this waits for it
    /// without a timeout. A node makes one backup at a time.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::{fs::File, io::Write as _};
    ///
    /// use futures_util::TryStreamExt as _;
    ///
    /// let mut backup = cable.backup().await?;
    /// let mut file = File::create("newsroom.part")?;
    /// while let Some(bytes) = backup.try_next().await? {
    ///     file.write_all(&bytes)?;
    /// }
    /// file.sync_all()?;
    /// // Rename it only now. Better still, compare the digest first: `cable backup` does both.
    /// println!("sha256 {:02x?}", backup.end().map(|end| &end.sha256[..]));
    /// std::fs::rename("newsroom.part", "newsroom.cable")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The token lacks the role, the node makes another backup
    /// ([`ResourceExhausted`](crate::ErrorKind::ResourceExhausted)) or cannot copy its store, or no node could be
    /// reached.
    pub async fn backup(&self) -> Result<BackupStream> {
        let opened = self.open(BackupRequest::default, None, &self.shared.retry).await?;
        let mut messages = messages(opened);
        let first = messages.next().await.transpose()?.and_then(|message| message.part);
        let Some(Part::Manifest(manifest)) = first else {
            return Err(malformed_response("a backup without a manifest"));
        };
        Ok(BackupStream { messages, manifest, received: 0, end: None, done: false })
    }
}

/// The bytes of a backup, in order. The stream ends without an error only if all of them have arrived.
///
/// A backup is not resumed: after an error, drop what was received and start another one.
#[must_use = "streams do nothing unless polled"]
pub struct BackupStream {
    messages: ResultStream<BackupResponse>,
    manifest: BackupManifest,
    received: u64,
    end: Option<BackupEnd>,
    done: bool,
}

impl fmt::Debug for BackupStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("BackupStream");
        debug.field("manifest", &self.manifest).field("received", &self.received);
        debug.field("end", &self.end).finish_non_exhaustive()
    }
}

impl BackupStream {
    /// Returns the description of the backup: its position, its size and the digests at the position.
    #[must_use]
    pub fn manifest(&self) -> &BackupManifest {
        &self.manifest
    }

    /// Returns the server's closing message, with the SHA-256 of all bytes. `None` before the end.
    #[must_use]
    pub fn end(&self) -> Option<&BackupEnd> {
        self.end.as_ref()
    }

    /// Returns the bytes of a message, `None` after the last one.
    fn accept(&mut self, message: Option<BackupResponse>) -> Result<Option<Bytes>> {
        match message.and_then(|message| message.part) {
            Some(Part::Chunk(chunk)) => {
                self.received += chunk.len() as u64;
                Ok(Some(chunk))
            }
            Some(Part::End(end)) if i64::try_from(self.received) == Ok(self.manifest.bytes) => {
                self.end = Some(end);
                Ok(None)
            }
            Some(Part::End(_)) => {
                let (received, bytes) = (self.received, self.manifest.bytes);
                Err(Error::truncated(format!("{received} bytes received instead of {bytes}")))
            }
            Some(Part::Manifest(_)) => Err(malformed_response("a backup with two manifests")),
            None => Err(Error::truncated("backup ended without its closing message")),
        }
    }
}

impl Stream for BackupStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        let next = ready!(self.messages.poll_next_unpin(cx)).transpose();
        let next = next.and_then(|message| self.accept(message)).transpose();
        self.done = !matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{TryStreamExt as _, stream};

    use super::*;
    use crate::ErrorKind;

    fn message(part: Part) -> Result<BackupResponse> {
        Ok(BackupResponse { part: Some(part) })
    }

    fn chunk(text: &'static str) -> Result<BackupResponse> {
        message(Part::Chunk(Bytes::from_static(text.as_bytes())))
    }

    fn end() -> Result<BackupResponse> {
        message(Part::End(BackupEnd::default()))
    }

    /// Returns the bytes of a backup of five bytes, or the kind of its error.
    async fn receive(messages: Vec<Result<BackupResponse>>) -> std::result::Result<Vec<Bytes>, ErrorKind> {
        let manifest = BackupManifest { bytes: 5, ..Default::default() };
        let messages = stream::iter(messages).boxed();
        let mut backup = BackupStream { messages, manifest, received: 0, end: None, done: false };
        let bytes = backup.by_ref().try_collect().await.map_err(|error: Error| error.kind());
        assert_eq!(backup.end().is_some(), bytes.is_ok());
        assert!(backup.next().await.is_none(), "nothing follows the end or an error");
        bytes
    }

    #[tokio::test]
    async fn only_a_whole_backup_ends_without_an_error() {
        assert_eq!(
            receive(vec![chunk("ab"), chunk("cde"), end()]).await,
            Ok(vec!["ab".into(), "cde".into()])
        );
        let manifest = || message(Part::Manifest(BackupManifest::default()));
        let lost = || Err(Error::from(tonic::Status::unavailable("lost")));
        for (messages, kind) in [
            (vec![], ErrorKind::Truncated),
            (vec![chunk("abcde")], ErrorKind::Truncated),
            (vec![chunk("abcd"), end()], ErrorKind::Truncated),
            (vec![chunk("abcdef"), end()], ErrorKind::Truncated),
            (vec![chunk("ab"), lost()], ErrorKind::Unavailable),
            (vec![chunk("ab"), manifest()], ErrorKind::Malformed),
        ] {
            assert_eq!(receive(messages).await, Err(kind));
        }
    }
}
