//! Pending versions.

use std::sync::{Arc, Mutex};

use cable_client::{Change, View, v1};
use futures_util::TryStreamExt as _;
use tonic::Code;

use crate::support::{Server, article, refusal, unary};

fn pending(name: &str) -> v1::PendingArticle {
    let mut pending = v1::PendingArticle::default();
    pending.article = Some(article(name));
    pending
}

#[tokio::test]
async fn pending_versions_are_read_listed_in_pages_and_removed() {
    let server = Server::start(0, |call, request| async move {
        match call.as_str() {
            "GetPending" => {
                let get = |request: v1::GetPendingRequest| async move {
                    let mut response = v1::GetPendingResponse::default();
                    response.pending = Some(pending(&request.name));
                    let none = refusal(Code::NotFound, "ARTICLE_NOT_FOUND");
                    if request.name == "articles/none" { Err(none) } else { Ok(response) }
                };
                unary(request, get).await
            }
            "ListPending" => {
                let list = |request: v1::ListPendingRequest| async move {
                    let mut response = v1::ListPendingResponse::default();
                    assert_eq!((request.page_size, request.view()), (2, View::Full));
                    let (names, next): (&[&str], _) = match request.page_token.as_str() {
                        "" => (&["articles/a", "articles/b"], "2"),
                        "2" => (&[], "3"),
                        _ => (&["articles/c"], ""),
                    };
                    response.pending = names.iter().map(|name| pending(name)).collect();
                    response.next_page_token = next.into();
                    Ok(response)
                };
                unary(request, list).await
            }
            _ => {
                let remove = |request: v1::RemovePendingRequest| async move {
                    let condition = v1::precondition::Condition::Etag("0123abcd-7".into());
                    assert_eq!(request.precondition.unwrap().condition, Some(condition));
                    let mut result = v1::WriteResult::default();
                    result.name = request.name;
                    let mut response = v1::RemovePendingResponse::default();
                    response.result = Some(result);
                    Ok(response)
                };
                unary(request, remove).await
            }
        }
    });
    let cable = server.client();
    assert_eq!(cable.pending("a").await.unwrap().article.unwrap().name, "articles/a");
    assert_eq!(cable.pending("none").optional().await.unwrap(), None);
    let listed = cable.list_pending().page_size(2).view(View::Full).items();
    let listed: Vec<v1::PendingArticle> = listed.try_collect().await.unwrap();
    let names = listed.into_iter().map(|pending| pending.article.unwrap().name);
    assert_eq!(names.collect::<Vec<_>>(), ["articles/a", "articles/b", "articles/c"]);
    let removed = cable.remove_pending("a").if_etag("0123abcd-7").await.unwrap();
    assert_eq!(removed.name, "articles/a");
}

#[tokio::test]
async fn a_put_allows_killed_names_only_on_request() {
    let flags = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&flags);
    let server = Server::start(0, move |_, request| {
        let recorded = Arc::clone(&recorded);
        unary(request, move |put: v1::PutArticleRequest| {
            recorded.lock().unwrap().push(put.allow_killed);
            let mut response = v1::PutArticleResponse::default();
            response.result = Some(v1::WriteResult::default());
            async { Ok(response) }
        })
    });
    server.client().put(article("a")).await.unwrap();
    server.client().put(article("a")).allow_killed().await.unwrap();
    assert_eq!(*flags.lock().unwrap(), [false, true]);
    assert!(Change::put(article("a")).allow_killed().allow_killed);
}
