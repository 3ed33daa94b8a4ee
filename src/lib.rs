//! Cable: a content-delivery service for publishers. This library is for the `cable` program alone. Other programs call
//! a node over gRPC; Rust programs use the crate `cable-client`.
//!
//! Data flows in one direction. A write goes from `publishing` through the `log` into the `store`. A read is served
//! from the memory of `content`, or from the store into that memory. The modules, from the outside in:
//!
//! - [`server`], `ops`: assembles, serves and drains a node; metrics, health and the operations page over HTTP
//! - [`admin`]: operations on a store that need no node: back up, verify, restore, rebuild
//! - [`audit`]: the log of writes, refusals and starts, in a chain that shows edits
//! - [`auth`]: who makes a call, and what it may do
//! - `rpc`: the services: parse, call, respond; converts a refusal into a Status
//! - [`web`]: read-only HTTP: the call that a URL stands for, errors and caching as HTTP expresses them
//! - `publishing`: turns the changes that a caller requests into entries of the log
//! - `content`: responses to reads, composed (`compose`) of encoded parts that a `cache` holds
//! - `feed`: delivers the changes that match a filter
//! - `transfer`: exports whole stores
//! - `backup`: backs up the store of a running node
//! - `refusal`, `parse`, `filter`, `page_token`: why a call fails; values, filters and page tokens in the requests of
//!   several services
//! - `log`: the order of writes
//! - `store`: the newest entry of each name on disk, with its lists and paths
//! - `entry`, `digest`: the durable format of a change; the hashes that verify the content of a store
//! - `wire`, `model`: generated messages and edits of encoded ones; names, revisions, limits
//! - [`config`], [`telemetry`]: settings; events and metrics
//! - `role`, `rate`, `reload`: the rights of callers; how often they may call; requests to read files again
//! - `health`, `supervise`: conditions that the parts of a node report; tasks and threads whose end is detected
//! - [`readiness`]: the response of `/readyz`
//! - [`systemd`]: notifications to systemd
//! - [`clock`]: the source of a node's time
//! - `fuzzing`: what holds for every input of the parsers of requests, for the fuzz targets
//! - [`near`]: the known name that a misspelt one is likely to mean

pub mod admin;
pub mod audit;
pub mod auth;
pub(crate) mod backup;
pub(crate) mod cache;
pub mod clock;
pub(crate) mod compose;
pub mod config;
pub(crate) mod content;
pub(crate) mod digest;
pub(crate) mod entry;
pub(crate) mod feed;
pub(crate) mod files;
pub(crate) mod filter;
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod health;
pub(crate) mod log;
pub(crate) mod model;
pub mod near;
pub(crate) mod ops;
pub(crate) mod page_token;
pub(crate) mod parse;
pub(crate) mod pending;
pub(crate) mod publishing;
pub(crate) mod rate;
pub mod readiness;
pub(crate) mod refusal;
pub(crate) mod reload;
pub(crate) mod role;
pub(crate) mod rpc;
pub mod server;
pub(crate) mod store;
pub(crate) mod supervise;
pub mod systemd;
pub mod telemetry;
pub(crate) mod transfer;
pub mod web;
pub(crate) mod wire;
