//! The reply to a call: messages of shared bytes, then the status.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{future::BoxFuture, stream::BoxStream};
use tonic::Status;

use super::{bridge::Routed, call::Call, request_id::RequestId};
use crate::{rpc, wire::Framed};

/// The reply to a call. Its final status is counted for the call.
pub(super) struct Reply {
    content: Content,
    call: Call,
    /// Ends a stream early, with a status.
    until: Option<BoxFuture<'static, Status>>,
}

/// A piece of a reply.
pub(super) enum Piece {
    /// A message, or a part of one that another service has encoded.
    Message(Framed),
    /// The status, which is the last piece.
    End(Result<(), Status>),
}

enum Content {
    /// One message, then OK.
    Message(Framed),
    /// The status OK.
    Ok,
    Stream(BoxStream<'static, Result<Framed, Status>>),
    /// The reply of a service that tonic serves.
    Routed(Routed),
    /// No piece: the status is known from the start.
    Refusal(Status),
    End,
}

impl Reply {
    /// Returns a reply of one message.
    pub(super) fn message(message: Framed, call: Call) -> Reply {
        Reply { content: Content::Message(message), call, until: None }
    }

    /// Returns a reply of the messages of a stream. It ends early if `until` completes.
    pub(super) fn stream(
        stream: BoxStream<'static, Result<Framed, Status>>,
        call: Call,
        until: Option<BoxFuture<'static, Status>>,
    ) -> Reply {
        Reply { content: Content::Stream(stream), call, until }
    }

    /// Returns a reply without a message, only with a status.
    pub(super) fn status(status: Status, mut call: Call) -> Reply {
        let mut status = Err(status);
        call.end(&mut status);
        let content = status.map_or_else(Content::Refusal, |()| Content::Ok);
        Reply { content, call, until: None }
    }

    /// Returns the reply of a service that tonic serves. It ends early if `until` completes.
    pub(super) fn routed(routed: Routed, call: Call, until: Option<BoxFuture<'static, Status>>) -> Reply {
        Reply { content: Content::Routed(routed), call, until }
    }

    /// Returns the status of a reply that has nothing else.
    pub(super) fn refusal(&self) -> Option<&Status> {
        match &self.content {
            Content::Refusal(status) => Some(status),
            _ => None,
        }
    }

    /// Returns the id of the call, if the client gave one or the call has failed.
    pub(super) fn request_id(&self) -> Option<&str> {
        self.call.known_request_id().map(RequestId::as_str)
    }

    /// Whether there are no more pieces.
    pub(super) fn is_end(&self) -> bool {
        matches!(self.content, Content::End | Content::Refusal(_))
    }

    /// Returns the next piece, `None` after the last one.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        if let Some(until) = &mut self.until
            && let Poll::Ready(status) = until.as_mut().poll(cx)
        {
            self.until = None;
            return Poll::Ready(Some(self.end(Err(status))));
        }
        let piece = match &mut self.content {
            Content::Message(message) => {
                let message = std::mem::take(message);
                self.content = Content::Ok;
                Piece::Message(message)
            }
            Content::Ok => self.end(Ok(())),
            Content::Stream(stream) => match ready!(catch_panic(|| stream.as_mut().poll_next(cx))) {
                Some(Ok(message)) => Piece::Message(message),
                Some(Err(status)) => self.end(Err(status)),
                None => self.end(Ok(())),
            },
            Content::Routed(routed) => {
                match ready!(catch_panic(|| Pin::new(routed).poll_piece(cx).map(|piece| Some(Ok(piece))))) {
                    Some(Ok(Piece::End(status))) => self.end(status),
                    Some(Ok(message)) => message,
                    Some(Err(status)) => self.end(Err(status)),
                    None => self.end(Ok(())),
                }
            }
            Content::Refusal(_) | Content::End => return Poll::Ready(None),
        };
        if let Piece::Message(message) = &piece {
            self.call.count_message(message);
        }
        Poll::Ready(Some(piece))
    }

    fn end(&mut self, mut status: Result<(), Status>) -> Piece {
        self.content = Content::End;
        self.call.end(&mut status);
        Piece::End(status)
    }
}

type Next<T> = Poll<Option<Result<T, Status>>>;

/// Polls a stream. A panic fails this stream and no other.
fn catch_panic<T>(next: impl FnOnce() -> Next<T>) -> Next<T> {
    let panicked = |_| Poll::Ready(Some(Err(rpc::internal("the stream panicked"))));
    catch_unwind(AssertUnwindSafe(next)).unwrap_or_else(panicked)
}
