"""A client of Cable, the content-delivery service for publishers.

`Cable` is asynchronous; `cable_client.sync` has the same for programs without an event loop.
"""

from cable_client import v1
from cable_client.client import Cable
from cable_client.errors import (
    CableError,
    ConfigError,
    MalformedError,
    NotFoundError,
    PositionStoreError,
    TooLargeError,
    Violation,
)
from cable_client.feed import Changes, Checkpoint, Event, Feed, Reset, Snapshot, SnapshotEnd, change_name, record_name
from cable_client.mirror import Entity, Mirror
from cable_client.positions import FilePosition, MemoryPosition, PositionStore, format_position, parse_position
from cable_client.v1 import FeedFilter, Position
