//! Page tokens: a cursor of a listing, bound to the log and to the listing that it came from. Clients treat them as
//! opaque.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    model::{Kind, LogId},
    refusal::Refusal,
    store::listing::Cursor,
};

const VERSION: u8 = 1;

/// The listing that a page token belongs to. No other listing accepts the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageScope {
    /// Articles, by a hash of the filter and the order.
    Articles(u64),
    /// All entities of a kind other than articles.
    Entities(Kind),
    /// Pending versions.
    Pending,
}

impl PageScope {
    /// Returns bytes that no other scope has.
    fn to_bytes(self) -> [u8; 9] {
        let (variant, value) = match self {
            PageScope::Articles(hash) => (0, hash),
            PageScope::Entities(kind) => (1, kind as u64),
            PageScope::Pending => (2, 0),
        };
        let mut bytes = [variant; 9];
        bytes[1..].copy_from_slice(&value.to_le_bytes());
        bytes
    }
}

/// Encodes a token.
#[must_use]
pub(crate) fn write(cursor: &Cursor, log_id: LogId, scope: PageScope) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&cursor.key.to_le_bytes());
    bytes.extend_from_slice(cursor.id.as_bytes());
    seal(bytes, log_id, scope)
}

/// Adds the checksum and encodes the token.
pub(crate) fn seal(mut payload: Vec<u8>, log_id: LogId, scope: PageScope) -> String {
    let sum = checksum(&payload, log_id, scope);
    payload.extend_from_slice(&sum);
    URL_SAFE_NO_PAD.encode(payload)
}

/// Decodes a token. Returns None, the start of the listing, if the token is empty.
///
/// # Errors
/// The token is damaged, or belongs to another listing or log.
pub(crate) fn read(token: &str, log_id: LogId, scope: PageScope) -> Result<Option<Cursor>, Refusal> {
    if token.is_empty() {
        return Ok(None);
    }
    let invalid = || Refusal::PageToken("invalid for this request; restart the listing");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
    let (payload, sum) = bytes.split_last_chunk::<8>().ok_or_else(invalid)?;
    if checksum(payload, log_id, scope) != *sum {
        return Err(invalid());
    }
    let (version, payload) = payload.split_first().ok_or_else(invalid)?;
    let (key, id) = payload.split_first_chunk::<8>().ok_or_else(invalid)?;
    if *version != VERSION {
        return Err(invalid());
    }
    let id = String::from_utf8(id.to_vec()).map_err(|_| invalid())?;
    Ok(Some(Cursor { key: i64::from_le_bytes(*key), id }))
}

fn checksum(payload: &[u8], log_id: LogId, scope: PageScope) -> [u8; 8] {
    let mut hashed = payload.to_vec();
    hashed.extend_from_slice(&log_id.0.to_le_bytes());
    hashed.extend_from_slice(&scope.to_bytes());
    xxh3_64(&hashed).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_accepted_only_by_its_own_listing_and_log() {
        let cursor = Cursor { key: -7, id: "storm".into() };
        let scopes = [
            PageScope::Articles(0),
            PageScope::Articles(Kind::Tag as u64),
            PageScope::Entities(Kind::Tag),
            PageScope::Entities(Kind::Section),
            PageScope::Pending,
        ];
        for scope in scopes {
            let token = write(&cursor, LogId(1), scope);
            for other in scopes {
                let expected = (other == scope).then(|| Some(cursor.clone()));
                assert_eq!(read(&token, LogId(1), other).ok(), expected, "{scope:?} {other:?}");
            }
            assert!(read(&token, LogId(2), scope).is_err());
        }
    }

    #[test]
    fn a_damaged_token_is_refused() {
        let token = write(&Cursor { key: -7, id: "storm".into() }, LogId(1), PageScope::Pending);
        assert_eq!(read("", LogId(1), PageScope::Pending).unwrap(), None);
        for bad in ["x", "AAAA", "!!!", &token[1..], &token[..token.len() - 1]] {
            assert!(read(bad, LogId(1), PageScope::Pending).is_err(), "{bad}");
        }
    }
}
