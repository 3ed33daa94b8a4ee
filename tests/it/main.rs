//! Tests through the public API: a real node on a free port with a directory of its own, called through the client.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
#![allow(clippy::print_stdout, reason = "the seed, to repeat a run that failed")]

mod access;
mod backups;
mod bodies;
mod connections;
mod consumers;
mod damage;
mod damage_images;
mod demo;
#[path = "../crash/dice.rs"]
mod dice;
mod disk;
mod feed_histories;
mod feed_parts;
mod feeds;
mod follow;
mod followers;
mod histories;
mod kills;
mod leaks;
mod limits;
mod linear;
mod mutations;
mod operations;
#[cfg(feature = "otlp")]
mod otlp;
mod overload;
mod paging;
mod partners;
mod paths;
mod pending;
mod raw;
mod reads;
mod refusals;
mod requests;
mod restores;
mod retags;
mod support;
mod tls;
mod transfers;
mod unknown_fields;
mod watching;
mod web;
mod write_model;
