//! Serves a feed over HTTP. It is a Watch call: with the same rights, limits and metrics.

use std::{panic::AssertUnwindSafe, pin::pin};

use futures_util::FutureExt as _;
use http::request::Parts;
use tonic::Status;

use super::{Calls, Opened, with_deadline};
use crate::{
    feed, rpc,
    server::{call::Call, delivery::Pace, reply::Reply, streams::Streams, transport},
    supervise,
    web::live,
};

impl Calls {
    /// Starts a feed.
    ///
    /// # Errors
    /// The feed is refused; the call ends with this status.
    pub(in crate::server) async fn live(
        &self,
        parts: &Parts,
        streams: &Streams,
    ) -> Result<(Reply, Pace), (Call, Status)> {
        let mut head = transport::head(parts, streams.peer());
        (head.path, head.timeout) = (live::METHOD, None);
        let Opened { call, admitted } = self.open(&head, streams);
        let method = call.method.clone();
        let bound = method.response_deadline(call.start, self.request_timeout, None);
        let mut call = Some(call);
        let outcome = {
            let started = pin!(async {
                admitted?;
                supervise::failpoint(&method.path, &self.state.health);
                let last = parts.headers.get_all(live::LAST_EVENT_ID).iter().map(http::HeaderValue::as_bytes);
                let request = live::request(parts.uri.query(), live::last_event_id(last)?)?;
                let permit = self.open_feed(streams)?;
                let message = (request, feed::Form::Event);
                // Boxed, as the call of a native feed is.
                Box::pin(self.follow(message, permit, streams, &mut call, None)).await
            });
            AssertUnwindSafe(with_deadline(bound, started)).catch_unwind().await
        };
        match (outcome.unwrap_or_else(|_| Err(rpc::internal("the call panicked"))), call) {
            (Ok(started), _) => Ok(started),
            (Err(status), Some(call)) => Err((call, status)),
            (Err(_), None) => unreachable!("only a feed that has started takes its call"),
        }
    }
}
