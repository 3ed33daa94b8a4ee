//! The program from the user's side: its output, the stream that it uses, and its exit code.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod article;
mod bench;
mod check;
mod config;
mod contexts;
mod feed;
mod import_feed;
mod recorder;
mod reference;
mod serve;
mod store;
mod support;
mod terminal;
mod text;
mod transfer;
mod usage;
