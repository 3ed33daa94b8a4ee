//! Calls, pages and streams.

use cable_client::{Cable, WriteOutcome, v1};
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

use crate::{
    Failure, emit,
    json::{decode, encode},
    millis,
};

pub(crate) async fn run(name: &str, id: &str, cable: &Cable, command: &Value) -> Result<(), Failure> {
    match name {
        "call" => {
            let response = call(cable, command).await?;
            emit(id, "result", json!({ "response": response }));
        }
        "pages" => pages(id, cable, command).await?,
        "stream" => stream(id, cable, command).await?,
        other => return Err(format!("unknown command {other}").into()),
    }
    Ok(())
}

/// Applies the timeout of a command to a call.
macro_rules! timed {
    ($call:expr, $command:expr) => {{
        let call = $call;
        match millis(&$command["timeout_ms"]) {
            Some(timeout) => call.timeout(timeout),
            None => call,
        }
    }};
}

/// Applies the options that all writes have.
macro_rules! write_options {
    ($write:expr, $request:expr) => {{
        let mut write = $write;
        if !$request.request_id.is_empty() {
            write = write.request_id(&$request.request_id);
        }
        if let Some(v1::precondition::Condition::Etag(etag)) =
            $request.precondition.as_ref().and_then(|precondition| precondition.condition.clone())
        {
            write = write.if_etag(etag);
        }
        write
    }};
}

async fn call(cable: &Cable, command: &Value) -> Result<Value, Failure> {
    let request = &command["request"];
    Ok(match command["method"].as_str().unwrap_or_default() {
        "get_article" => {
            let request: v1::GetArticleRequest = decode(request)?;
            let get = cable.article(&request.name).view(request.view()).body_format(request.body_format());
            let article = timed!(get, command).await?;
            let response = v1::GetArticleResponse {
                meta: Some(article.meta.clone()),
                article: Some(article.into_inner()),
                ..Default::default()
            };
            encode(&response)?
        }
        "list_articles" => {
            let request: v1::ListArticlesRequest = decode(request)?;
            let page = timed!(list(cable, &request), command).await?;
            let response = v1::ListArticlesResponse {
                articles: page.articles.clone(),
                next_page_token: page.next_page_token.clone().unwrap_or_default(),
                ..Default::default()
            };
            encode(&response)?
        }
        "put_article" => {
            let mut request: v1::PutArticleRequest = decode(request)?;
            let mut put = cable.put(request.article.take().unwrap_or_default());
            put = put.update_kind(request.update_kind());
            if matches!(
                &request.precondition,
                Some(v1::Precondition { condition: Some(v1::precondition::Condition::MustBeAbsent(true)) })
            ) {
                put = put.if_absent();
            }
            if request.allow_killed {
                put = put.allow_killed();
            }
            written(&timed!(write_options!(put, request), command).await?)?
        }
        "patch_article" => {
            let mut request: v1::PatchArticleRequest = decode(request)?;
            let mask = request.update_mask.take().unwrap_or_default().paths;
            let patch = cable.patch(request.article.take().unwrap_or_default(), mask);
            written(&timed!(write_options!(patch, request), command).await?)?
        }
        "remove_article" => {
            let request: v1::RemoveArticleRequest = decode(request)?;
            let remove = cable.remove(&request.name, request.reason());
            written(&timed!(write_options!(remove, request), command).await?)?
        }
        "put_tag" => {
            let mut request: v1::PutTagRequest = decode(request)?;
            let put = cable.put(request.tag.take().unwrap_or_default());
            written(&timed!(write_options!(put, request), command).await?)?
        }
        "commit" => {
            let request: v1::CommitRequest = decode(request)?;
            let mut commit = cable.commit().changes(request.changes);
            if !request.request_id.is_empty() {
                commit = commit.request_id(request.request_id);
            }
            let outcome = timed!(commit, command).await?;
            let (results, position) = (outcome.results, Some(outcome.position));
            encode(&v1::CommitResponse { results, position })?
        }
        "get_status" => encode(&cable.status().await?)?,
        other => return Err(format!("unknown method {other}").into()),
    })
}

fn written(outcome: &WriteOutcome) -> Result<Value, Failure> {
    let result = v1::WriteResult {
        name: outcome.name.clone(),
        etag: outcome.etag.clone(),
        revision: outcome.revision,
        changed: outcome.changed,
        pending: outcome.pending,
        ..Default::default()
    };
    let position = Some(outcome.position.clone());
    Ok(encode(&v1::PutArticleResponse { result: Some(result), position })?)
}

fn list(cable: &Cable, request: &v1::ListArticlesRequest) -> cable_client::ListArticles {
    let mut list =
        cable.list(request.filter.clone().unwrap_or_default()).order(request.order()).view(request.view());
    if request.page_size != 0 {
        list = list.page_size(request.page_size.try_into().unwrap_or(u32::MAX));
    }
    if !request.page_token.is_empty() {
        list = list.page_token(&request.page_token);
    }
    list
}

fn item(id: &str, article: &v1::Article) {
    emit(id, "item", json!({"name": article.name, "etag": article.etag, "revision": article.revision}));
}

async fn pages(id: &str, cable: &Cable, command: &Value) -> Result<(), Failure> {
    let request: v1::ListArticlesRequest = decode(&command["request"])?;
    let mut pages = list(cable, &request).pages();
    let (mut count, mut left) = (0, command["max_pages"].as_u64().unwrap_or(u64::MAX));
    while left > 0
        && let Some(page) = pages.try_next().await?
    {
        left -= 1;
        for article in &page.articles {
            item(id, article);
            count += 1;
        }
    }
    emit(id, "end", json!({ "count": count }));
    Ok(())
}

async fn stream(id: &str, cable: &Cable, command: &Value) -> Result<(), Failure> {
    let request: v1::StreamArticlesRequest = decode(&command["request"])?;
    let filter = request.filter.clone().unwrap_or_default();
    let mut articles = cable.stream(filter).order(request.order()).view(request.view()).articles();
    while let Some(article) = articles.try_next().await? {
        item(id, &article);
    }
    emit(id, "end", json!({"count": articles.end().map(|end| end.count)}));
    Ok(())
}
