#!/usr/bin/env bash
# A Python client, with code that grpcio-tools generates from the schema.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

venv
generate
serve --demo
run_shown "$python" "$root/tests/clients/python/newsroom.py" "$address"
expect '^read back: '

# A follower, and changes until it has seen two of them.
"$python" "$root/tests/clients/python/follower.py" "$address" tags/russia 2 >"$scratch/followed" 2>&1 &
follower=$!
for turn in $(seq 60); do
    kill -0 "$follower" 2>/dev/null || break
    "$python" - "$address" "$turn" <<'PUT'
import sys

import grpc
from cable.v1 import article_pb2, publishing_pb2, publishing_pb2_grpc

with grpc.insecure_channel(sys.argv[1]) as channel:
    article = article_pb2.Article(name="articles/followed", headline=sys.argv[2], tags=["tags/russia"])
    publishing_pb2_grpc.PublishingServiceStub(channel).PutArticle(publishing_pb2.PutArticleRequest(article=article))
PUT
done
wait "$follower" || die "the follower failed: $(cat "$scratch/followed")"
grep -q '^tags/russia: 12 articles after 2 changes$' "$scratch/followed" || die "$(cat "$scratch/followed")"
