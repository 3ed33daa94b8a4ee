//! The web outputs: content as JSON over HTTP, and what caches may do with it.

mod access;
mod caching;
pub(crate) mod client;
mod documents;
mod errors;
pub(crate) mod feed_twins;
mod limits;
pub(crate) mod live;
pub(crate) mod syndication;
