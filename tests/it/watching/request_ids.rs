//! Ids of calls: given or made, in trailers and in errors.

use serde_json::json;
use tonic_types::StatusExt as _;

use crate::{raw::Raw, support::Node};

const HEADER: &str = "x-request-id";

#[tokio::test(flavor = "multi_thread")]
async fn a_given_id_is_returned_and_others_are_made_for_errors_only() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    let tag = json!({"tag": {"name": "tags/a", "display_name": "A"}});
    raw.call("PutTag", tag).await.unwrap();
    let get = |name: &str, given: Option<&'static str>| {
        let (raw, request) = (raw.clone(), json!({"name": name}));
        async move {
            let headers: Vec<_> = given.into_iter().map(|id| (HEADER, id)).collect();
            raw.call_with("GetTag", request, &headers).await
        }
    };
    // Twice: from the store, and from memory.
    for _ in 0..2 {
        let (_, trailers) = get("tags/a", None).await.unwrap();
        assert!(trailers.get(HEADER).is_none());
        let (_, trailers) = get("tags/a", Some("desk-7")).await.unwrap();
        assert_eq!(trailers.get(HEADER).unwrap(), "desk-7");
        let too_long: &'static str = "x".repeat(129).leak();
        for invalid in ["two words", too_long] {
            let (_, trailers) = get("tags/a", Some(invalid)).await.unwrap();
            assert_ne!(trailers.get(HEADER).unwrap(), invalid);
        }
    }
    for given in [None, Some("desk-7")] {
        for name in ["tags/b", "", "articles/a"] {
            let status = get(name, given).await.unwrap_err();
            let returned = status.metadata().get(HEADER).unwrap().to_str().unwrap().to_owned();
            let details = status.get_error_details();
            assert_eq!(details.request_info().map(|info| &info.request_id), Some(&returned), "{name}");
            assert!(details.error_info().is_some());
            assert!(given.is_none_or(|given| given == returned));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_all_kinds_have_an_id() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.feed.max_open = 0).await;
    let raw = Raw::to(&node).await;
    let import = json!({"source": "\u{7}", "records": [{}]});
    for (method, request, headers) in [
        ("Watch", json!({}), &[][..]),
        ("StreamArticles", json!({"filter": {"all_tags": ["x"]}}), &[]),
        ("Import", import, &[]),
        ("PutTag", json!({}), &[]),
        ("GetTag", json!({"name": "tags/a"}), &[("grpc-timeout", "x")]),
        ("GetTag", json!({"name": "tags/a"}), &[("authorization", "Bearer nothing")]),
    ] {
        let status = raw.call_with(method, request, headers).await.unwrap_err();
        let returned = status.metadata().get(HEADER).unwrap_or_else(|| panic!("{method}: {status:?}"));
        let details = status.get_error_details();
        let info = details.request_info().unwrap_or_else(|| panic!("{method}: {status:?}"));
        assert_eq!(returned, &info.request_id, "{method}");
    }
}
