//! Read-only HTTP: from the target of a request to the message of the call that it stands for, and what the headers of
//! its response state. The call itself is served as any other. Feeds and sitemaps are listings in other formats.

pub(crate) mod caching;
pub(crate) mod errors;
pub(crate) mod files;
pub(crate) mod live;
pub(crate) mod openapi;
pub(crate) mod request;
pub(crate) mod syndication;

/// Returns the description of the resources in OpenAPI 3.1.
#[must_use]
pub fn openapi() -> String {
    openapi::describe()
}
