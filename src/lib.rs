//! Cable: a content-delivery service for publishers.

#[expect(dead_code, reason = "the commands on top of it come next")]
mod import;
pub mod rpc;
mod sanitise;
pub mod wire;
