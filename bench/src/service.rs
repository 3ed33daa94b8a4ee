//! ContentService as tonic generates it, over the messages of cable-client.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    reason = "generated from the commented schema"
)]

tonic::include_proto!("cable.v1");
