//! Tests of the client with servers that follow a script.

#![allow(clippy::unwrap_used, reason = "a test that meets an error ends there")]

mod credentials;
mod faults;
mod feeds;
mod imports;
mod limits;
mod mirrors;
mod nodes;
mod pending;
mod purges;
mod support;
#[cfg(feature = "tls")]
mod tls;
