//! Cable: a content-delivery service for publishers.

pub mod config;
mod ops;
pub mod rpc;
pub mod telemetry;
pub mod wire;
