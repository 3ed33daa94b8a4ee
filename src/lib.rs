//! Cable: a content-delivery service for publishers.

pub mod cli;
pub mod config;
pub(crate) mod digest;
pub(crate) mod entry;
mod import;
pub(crate) mod log;
pub(crate) mod model;
mod ops;
pub(crate) mod publishing;
pub(crate) mod refusal;
pub(crate) mod render;
pub mod rpc;
pub(crate) mod sanitise;
pub(crate) mod store;
pub mod telemetry;
pub mod wire;
