"""Follows a tag from a snapshot on. Each commit is applied as one step; a lost stream is resumed.

usage: follower.py ADDRESS TAG [COUNT]: ends after COUNT changes.
"""

import sys
import time

import grpc
from cable.v1 import feed_pb2, feed_pb2_grpc

# Errors after which a follower can retry, here or at another node.
RETRYABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED}


class Follower:
    def __init__(self, tag):
        self.request = feed_pb2.WatchRequest(
            filter=feed_pb2.FeedFilter(any_tags=[tag]), snapshot=True, allow_reset=True, include_backfill=True)
        self.articles, self.count = {}, 0

    def follow(self, feeds, max_changes):
        """Applies messages until there were max_changes changes, or the stream ends."""
        parts, snapshot = [], {}
        for message in feeds.Watch(self.request):
            event = message.WhichOneof("event")
            if event == "snapshot":
                snapshot.update((record.article.name, record.article) for record in message.snapshot.records)
            elif event == "reset":
                parts, snapshot = [], {}
            elif event == "snapshot_end":
                self.articles = snapshot
            elif event == "changes":
                parts += message.changes.changes
                if message.changes.more_follows:
                    continue  # part of a large commit: the last part has the position
                self.apply(parts)
                parts = []
            if message.HasField("position"):
                self.request.after.CopyFrom(message.position)
            if self.count >= max_changes:
                return

    def apply(self, changes):
        for change in changes:
            kind = change.WhichOneof("change")
            if kind == "upsert":
                self.articles[change.upsert.article.name] = change.upsert.article
            else:
                self.articles.pop(change.left or change.removed.name, None)
            print(change.revision, kind, flush=True)
        self.count += len(changes)


def main(address, tag, max_changes):
    follower = Follower(tag)
    with grpc.insecure_channel(address) as channel:
        feeds = feed_pb2_grpc.FeedServiceStub(channel)
        while follower.count < max_changes:
            try:
                follower.follow(feeds, max_changes)
            except grpc.RpcError as error:
                if error.code() not in RETRYABLE:
                    raise
                time.sleep(0.2)
    print(f"{tag}: {len(follower.articles)} articles after {follower.count} changes")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else sys.maxsize)
