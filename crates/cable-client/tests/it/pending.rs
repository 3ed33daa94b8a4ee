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
async fn pending_versions_are_got_listed_by_pages_and_taken_back() {
    let server = Server::start(0, |call, request| async move {
        match call.as_str() {
            "GetPending" => {
                let get = |asked: v1::GetPendingRequest| async move {
                    let mut answer = v1::GetPendingResponse::default();
                    answer.pending = Some(pending(&asked.name));
                    let none = refusal(Code::NotFound, "ARTICLE_NOT_FOUND");
                    if asked.name == "articles/none" { Err(none) } else { Ok(answer) }
                };
                unary(request, get).await
            }
            "ListPending" => {
                let list = |asked: v1::ListPendingRequest| async move {
                    let mut answer = v1::ListPendingResponse::default();
                    assert_eq!((asked.page_size, asked.view()), (2, View::Full));
                    let (names, next): (&[&str], _) = match asked.page_token.as_str() {
                        "" => (&["articles/a", "articles/b"], "2"),
                        "2" => (&[], "3"),
                        _ => (&["articles/c"], ""),
                    };
                    answer.pending = names.iter().map(|name| pending(name)).collect();
                    answer.next_page_token = next.into();
                    Ok(answer)
                };
                unary(request, list).await
            }
            _ => {
                let remove = |asked: v1::RemovePendingRequest| async move {
                    let condition = v1::precondition::Condition::Etag("0123abcd-7".into());
                    assert_eq!(asked.precondition.unwrap().condition, Some(condition));
                    let mut result = v1::WriteResult::default();
                    result.name = asked.name;
                    let mut answer = v1::RemovePendingResponse::default();
                    answer.result = Some(result);
                    Ok(answer)
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
    let taken_back = cable.remove_pending("a").if_etag("0123abcd-7").await.unwrap();
    assert_eq!(taken_back.name, "articles/a");
}

#[tokio::test]
async fn a_put_says_that_a_killed_name_may_come_back_only_if_told_so() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    let server = Server::start(0, move |_, request| {
        let kept = Arc::clone(&kept);
        unary(request, move |put: v1::PutArticleRequest| {
            kept.lock().unwrap().push(put.allow_killed);
            let mut answer = v1::PutArticleResponse::default();
            answer.result = Some(v1::WriteResult::default());
            async { Ok(answer) }
        })
    });
    server.client().put(article("a")).await.unwrap();
    server.client().put(article("a")).allow_killed().await.unwrap();
    assert_eq!(*asked.lock().unwrap(), [false, true]);
    assert!(Change::put(article("a")).allow_killed().allow_killed);
}
