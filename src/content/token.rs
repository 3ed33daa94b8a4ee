//! Page tokens: a cursor of a listing, bound to the log and to the request that it came from. Clients treat them as
//! opaque.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use xxhash_rust::xxh3::xxh3_64;

use crate::{model::LogId, refusal::Refusal, store::listing::Cursor};

const VERSION: u8 = 1;

/// Encodes a token. `request` is a fingerprint of the request for the listing.
#[must_use]
pub(crate) fn write(cursor: &Cursor, log_id: LogId, request: u64) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&cursor.key.to_le_bytes());
    bytes.extend_from_slice(cursor.id.as_bytes());
    let sum = checksum(&bytes, log_id, request);
    bytes.extend_from_slice(&sum);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes a token. Returns None, the start of the listing, if the token is empty.
///
/// # Errors
/// The token is damaged, or belongs to another request or log.
pub(crate) fn read(token: &str, log_id: LogId, request: u64) -> Result<Option<Cursor>, Refusal> {
    if token.is_empty() {
        return Ok(None);
    }
    let invalid = || Refusal::PageToken("invalid for this request; restart the listing");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
    let (payload, sum) = bytes.split_last_chunk::<8>().ok_or_else(invalid)?;
    if checksum(payload, log_id, request) != *sum {
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

fn checksum(payload: &[u8], log_id: LogId, request: u64) -> [u8; 8] {
    let mut hashed = payload.to_vec();
    hashed.extend_from_slice(&log_id.0.to_le_bytes());
    hashed.extend_from_slice(&request.to_le_bytes());
    xxh3_64(&hashed).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_only_for_its_own_request_and_log() {
        let cursor = Cursor { key: -7, id: "storm".into() };
        let token = write(&cursor, LogId(1), 2);
        assert_eq!(read(&token, LogId(1), 2).unwrap(), Some(cursor));
        assert_eq!(read("", LogId(1), 2).unwrap(), None);
        assert!(read(&token, LogId(2), 2).is_err());
        assert!(read(&token, LogId(1), 3).is_err());
        for bad in ["x", "AAAA", "!!!", &token[1..], &token[..token.len() - 1]] {
            assert!(read(bad, LogId(1), 2).is_err(), "{bad}");
        }
    }
}
