//! Cable: a content-delivery service for publishers.

mod render;
pub mod rpc;
mod sanitise;
pub mod wire;
