#![doc = include_str!("../README.md")]

mod backup;
mod client;
mod config;
mod connect;
mod consumer;
mod error;
mod feed;
mod list;
mod mirror;
mod pending;
mod pool;
mod position;
mod read;
mod retry;
mod scope;
mod shape;
#[cfg(all(feature = "testing", unix))]
pub mod testing;
mod tls;
mod token;
mod transfer;
mod write;

pub use backup::BackupStream;
pub use client::{BoxFuture, Cable};
pub use config::{Builder, IntoEndpoints};
pub use error::{Error, ErrorKind, Result, Violation};
pub use feed::{Delivery, Event, Feed, FeedBuilder, FeedChange, FeedFilter, NameState, ResetReason};
pub use list::{
    ArticleStream, BatchArticles, BatchItem, GetArticles, ListArticles, ListEntities, Listable, Page,
    ResultStream, StreamArticles,
};
pub use mirror::{Mirror, MirrorBuilder, MirrorEntity, MirrorSnapshot, MirrorWatch};
pub use pending::{GetPending, ListPending, RemovePending};
pub use position::{FilePosition, PositionStore};
pub use read::{
    CollectionWithArticles, Conditional, GetArticle, GetCollection, GetEntity, Gettable, Optional,
    ReadResponse, ResolvePath, ResolvedArticle,
};
pub use retry::Retry;
pub use shape::Filter;
pub use tls::Pem;
pub use token::Token;
pub use transfer::{Export, Import, ImportAck, RecordStream};
pub use write::{Commit, CommitOutcome, Entity, Patch, Put, Remove, WriteOutcome};

pub use cable_proto::{RawRecord, Text, v1};
pub use prost_types::{Duration as ProtoDuration, Timestamp};
pub use v1::{
    ArticleOrder as Order, ArticleView as View, BodyFormat, Change, EntityKind, ErrorReason, Include,
    Position, RemovalReason, UpdateKind,
};

/// The stubs of the services.
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::large_futures,
    clippy::allow_attributes_without_reason,
    rustdoc::all,
    reason = "generated from the commented schema"
)]
mod stubs {
    include!("gen/cable.v1.rs");
}
