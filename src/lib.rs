//! Cable: a content-delivery service for publishers.

pub(crate) mod cache;
pub mod cli;
pub(crate) mod compose;
pub mod config;
pub(crate) mod content;
pub(crate) mod digest;
pub(crate) mod entry;
pub(crate) mod import;
pub(crate) mod log;
pub(crate) mod model;
pub(crate) mod ops;
pub(crate) mod publishing;
pub(crate) mod refusal;
pub(crate) mod render;
pub(crate) mod rpc;
pub(crate) mod sanitise;
pub mod server;
pub(crate) mod store;
pub mod telemetry;
pub(crate) mod transfer;
pub(crate) mod wire;
