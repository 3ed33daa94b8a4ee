"""Follows a tag from a snapshot on: each commit is applied as one step, over as many streams as it takes.

usage: follower.py ADDRESS TAG [COUNT]: ends after COUNT changes.
"""

import sys
import time

import grpc
from cable.v1 import feed_pb2, feed_pb2_grpc

# What a follower can mend by another try, here or at another node.
PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED}


class Follower:
    def __init__(self, tag):
        self.request = feed_pb2.WatchRequest(
            filter=feed_pb2.FeedFilter(any_tags=[tag]), snapshot=True, reset=True, include_backfill=True)
        self.held, self.count = {}, 0

    def follow(self, feeds, enough):
        """Applies messages until there were enough changes, or the stream ends."""
        parts, snapshot = [], {}
        for message in feeds.Watch(self.request):
            event = message.WhichOneof("event")
            if event == "snapshot":
                snapshot.update((record.article.name, record.article) for record in message.snapshot.records)
            elif event == "reset":
                parts, snapshot = [], {}
            elif event == "snapshot_end":
                self.held = snapshot
            elif event == "changes":
                parts += message.changes.changes
                if message.changes.more_follows:
                    continue  # part of a large commit: the last part has the position
                self.apply(parts)
                parts = []
            if message.HasField("position"):
                self.request.after.CopyFrom(message.position)
            if self.count >= enough:
                return

    def apply(self, changes):
        for change in changes:
            kind = change.WhichOneof("change")
            if kind == "upsert":
                self.held[change.upsert.article.name] = change.upsert.article
            else:
                self.held.pop(change.left or change.removed.name, None)
            print(change.revision, kind, flush=True)
        self.count += len(changes)


def main(address, tag, enough):
    follower = Follower(tag)
    with grpc.insecure_channel(address) as channel:
        feeds = feed_pb2_grpc.FeedServiceStub(channel)
        while follower.count < enough:
            try:
                follower.follow(feeds, enough)
            except grpc.RpcError as error:
                if error.code() not in PASSING:
                    raise
                time.sleep(0.2)
    print(f"{tag}: {len(follower.held)} articles after {follower.count} changes")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else sys.maxsize)
