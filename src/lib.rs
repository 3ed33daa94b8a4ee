//! Cable: a content-delivery service for publishers.

pub mod rpc;
pub mod wire;
