//! Cable: a content-delivery service for publishers.

pub mod cli;
pub mod config;
mod import;
mod ops;
pub mod rpc;
mod sanitise;
pub mod telemetry;
pub mod wire;
