//! Cable: a content-delivery service for publishers. This library is the `cable` program's; other programs speak to
//! it over gRPC, in Rust with the crate `cable-client`.
//!
//! Data flows one way: a write goes from `publishing` through the `log` into the `store`; a read comes from the
//! `content`'s memory, or from the store into it. The modules, from the outside in:
//!
//! - [`cli`]: the command line; it speaks to a node through the client crate
//! - [`config`], [`telemetry`], `ops`: settings, events and metrics, and the plain HTTP that tells of them
//! - [`server`]: a node put together, served and drained
//! - `rpc`: the services: parse, ask, answer; where a `refusal` becomes a Status
//! - `publishing`: what a caller wants becomes entries of the log
//! - `content`: answers to reads, composed (`compose`) of encoded parts that a `cache` keeps
//! - `feed`: what a filter matches, followed as it changes
//! - `transfer`: whole stores out
//! - `import`: what other systems export, as records
//! - `log`: the order of writes
//! - `store`: the newest entry of each name on disk, with its lists and paths
//! - `entry`, `digest`: the lasting format of a change, and what proves a store's content
//! - `render`, `sanitise`: bodies as HTML, Markdown and plain text; what HTML may be stored
//! - `wire`, `model`: generated messages and surgery on encoded ones; names, revisions, limits
//! - `health`, `supervise`: conditions that the parts of a node report; tasks and threads whose end is noticed
//! - [`clock`]: what tells a node the time

pub(crate) mod cache;
pub mod cli;
pub mod clock;
pub(crate) mod compose;
pub mod config;
pub(crate) mod content;
pub(crate) mod digest;
pub(crate) mod entry;
pub(crate) mod feed;
pub(crate) mod health;
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
pub(crate) mod supervise;
pub mod telemetry;
pub(crate) mod transfer;
pub(crate) mod wire;
