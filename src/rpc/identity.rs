//! The identity of a request, by which a retry is recognised as the same request. `publishing.proto` describes it. It
//! outlives restarts and upgrades of the server, so its form never changes without a new number.

use bytes::Bytes;
use prost_reflect::MessageDescriptor;
use sha2::{Digest as _, Sha256};

use crate::{
    digest::{Hash, canonical},
    model::{Id, limit},
    publishing::Publishing,
    refusal::{Refusal, at_most},
    wire::POOL,
};

/// The number of the form that [`identity`] hashes.
const FORM: u8 = 1;

macro_rules! methods {
    ($($method:ident = $number:literal,)*) => {
        /// The methods that accept a request_id. Their numbers are stored with requests, so no number is ever reused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Method { $($method = $number,)* }

        impl Method {
            #[cfg(test)]
            const ALL: &[Method] = &[$(Method::$method),*];

            fn name(self) -> &'static str {
                match self { $(Method::$method => stringify!($method),)* }
            }
        }
    };
}

methods! {
    PutArticle = 1,
    PatchArticle = 2,
    RemoveArticle = 3,
    PutAuthor = 4,
    RemoveAuthor = 5,
    PutSection = 6,
    RemoveSection = 7,
    PutTag = 8,
    RemoveTag = 9,
    PutCollection = 10,
    RemoveCollection = 11,
    Commit = 12,
    RemovePending = 13,
}

impl Method {
    fn request(self) -> MessageDescriptor {
        let name = format!("cable.v1.{}Request", self.name());
        POOL.get_message_by_name(&name).expect("the schema contains a request for every method")
    }
}

/// Returns the request_id, if it is set, with the identity of the request. `received` is the request as received.
///
/// # Errors
/// The request_id is invalid, or too many writes wait to be checked.
pub(super) async fn identify(
    publishing: &Publishing,
    method: Method,
    request_id: &str,
    received: Bytes,
) -> Result<Option<(String, Hash)>, Refusal> {
    if request_id.is_empty() {
        return Ok(None);
    }
    at_most(&limit::REQUEST_ID, request_id.len(), "request_id")?;
    if Id::parse(request_id).is_none() {
        return Err(Refusal::field(
            "request_id",
            "must contain only the characters A-Z a-z 0-9 . _ ~ -, and not be `.` or `..`",
        ));
    }
    let hash = publishing.offload(received.len(), move || identity(method, &received)).await?;
    Ok(Some((request_id.to_owned(), hash)))
}

fn identity(method: Method, received: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([FORM, method as u8]);
    hasher.update(canonical(&method.request(), received));
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;
    use crate::wire::v1;

    #[test]
    fn every_method_with_a_request_id_has_its_own_number() {
        let service = POOL.get_service_by_name("cable.v1.PublishingService").unwrap();
        let with_request_id =
            service.methods().filter(|method| method.input().get_field_by_name("request_id").is_some());
        let of_schema: BTreeSet<String> = with_request_id.map(|method| method.name().to_owned()).collect();
        let ours: BTreeSet<String> = Method::ALL.iter().map(|method| method.name().to_owned()).collect();
        assert_eq!(ours, of_schema);
        let identities: BTreeSet<Hash> = Method::ALL.iter().map(|method| identity(*method, b"")).collect();
        assert_eq!(identities.len(), Method::ALL.len());
    }

    /// Every later release must recognise the identities that are stored today.
    #[test]
    fn the_identity_of_a_request_does_not_change() {
        let article = v1::Article {
            name: "articles/a".into(),
            headline: "Storm".into(),
            annotations: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        };
        let request = v1::PutArticleRequest {
            article: Some(article),
            request_id: "r1".into(),
            update_kind: 2,
            ..Default::default()
        };
        let hash = identity(Method::PutArticle, &request.encode_to_vec());
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "166243c20234bd75dfd14d303755734f134585ac012d921943b157f4a3eab297");
    }
}
