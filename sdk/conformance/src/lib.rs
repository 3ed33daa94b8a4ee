//! The code that the runner and the Rust driver share: the identity of a record.

use cable_client::{
    RawRecord,
    v1::{Record, record},
};

/// The name, etag and revision of a live record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The resource name.
    pub name: String,
    /// The etag.
    pub etag: String,
    /// The revision of the newest change.
    pub revision: i64,
}

/// Returns the identity of a record. `None` if the bytes are not a live record of a kind that this program knows.
#[must_use]
pub fn identify(record: &RawRecord) -> Option<Identity> {
    let Record { record: Some(record), .. } = record.decode().ok()? else { return None };
    macro_rules! of {
        ($($kind:ident)*) => {
            match record {
                $(record::Record::$kind(e) => Some(Identity { name: e.name, etag: e.etag, revision: e.revision }),)*
                _ => None,
            }
        };
    }
    of!(Article Author Section Tag Collection)
}
