#!/usr/bin/env bash
# grpcurl has no copy of the schema: it reads the schema by reflection.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

go_tool grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
serve --demo
call() { run_shown "$tool" -plaintext "$@"; }

call "$address" list
expect '^cable\.v1\.ContentService$' '^cable\.v1\.PublishingService$' '^cable\.v1\.TransferService$' \
    '^cable\.v1\.StatusService$' '^cable\.v1\.FeedService$' '^grpc\.health\.v1\.Health$'

call "$address" describe cable.v1.ContentService.GetArticle
expect 'rpc GetArticle \( \.cable\.v1\.GetArticleRequest \) returns \( \.cable\.v1\.GetArticleResponse \);'
call "$address" describe cable.v1.GetArticleRequest
expect 'string name = 1;' 'ArticleView view = 2;'

call "$address" grpc.health.v1.Health/Check
expect '"status": "SERVING"'

call -d '{"name": "articles/station-lamp-23", "body_format": "BODY_FORMAT_PLAIN_TEXT", "includes": ["INCLUDE_AUTHORS"]}' \
    "$address" cable.v1.ContentService/GetArticle
expect '"name": "articles/station-lamp-23"' '"headline": ".' '"displayName": "' '"servedRevision": "[1-9]'

call -d '{"filter": {"all_tags": ["tags/russia"]}, "page_size": 3, "view": "ARTICLE_VIEW_REFERENCE"}' \
    "$address" cable.v1.ContentService/ListArticles
expect '"nextPageToken": ".'
expect_lines 3 '"name": "articles/'

call -d '{"filter": {"all_tags": ["tags/russia"]}, "view": "ARTICLE_VIEW_REFERENCE"}' \
    "$address" cable.v1.ContentService/StreamArticles
expect '"count": "[1-9]' '"revision": "[1-9]'
expect_lines "$(grep -oE '"count": "[0-9]+"' "$scratch/out" | grep -oE '[0-9]+')" '"name": "articles/'

article='{"name": "articles/quay-reopens", "headline": "Quay reopens", "tags": ["tags/port-averil"]}'
put="{\"article\": $article, \"precondition\": {\"must_be_absent\": true}, \"request_id\": \"quay-1\"}"
call -d "$put" "$address" cable.v1.PublishingService/PutArticle
expect '"name": "articles/quay-reopens"' '"changed": true'
first=$(cat "$scratch/out")

# A repeated request has the same response.
call -d "$put" "$address" cable.v1.PublishingService/PutArticle
expect '"changed": true'
[ "$first" = "$(cat "$scratch/out")" ] || die "a repeated request has a different response"

# Another request with the same precondition fails with a reason.
call -d "{\"article\": $article, \"precondition\": {\"must_be_absent\": true}}" \
    "$address" cable.v1.PublishingService/PutArticle
[ "$code" -ne 0 ] || die "the call did not fail"
expect_output 'Code: AlreadyExists' 'type\.googleapis\.com/google\.rpc\.ErrorInfo' '"reason": "NAME_EXISTS"'

call -d '{"article": {"name": "articles/a b", "headline": "Spaces"}}' \
    "$address" cable.v1.PublishingService/PutArticle
[ "$code" -ne 0 ] || die "the call did not fail"
expect_output 'Code: InvalidArgument' '"reason": "FIELD_INVALID"' 'google\.rpc\.BadRequest' '"field": "article.name"'
