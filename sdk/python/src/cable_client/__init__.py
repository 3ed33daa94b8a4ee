"""A client of Cable, the content-delivery service for publishers.

`Cable` is asynchronous; `cable_client.sync` has the same for programs without an event loop.
"""

from cable_client import v1 as v1
from cable_client.client import Cable as Cable
from cable_client._transport import TokenSource as TokenSource
from cable_client.errors import CableError as CableError, ConfigError as ConfigError, NotFoundError as NotFoundError
from cable_client.errors import MalformedError as MalformedError, PositionStoreError as PositionStoreError
from cable_client.errors import TooLargeError as TooLargeError, Violation as Violation
from cable_client.feed import Changes as Changes, Checkpoint as Checkpoint, Event as Event, Feed as Feed
from cable_client.feed import Reset as Reset, Snapshot as Snapshot, SnapshotEnd as SnapshotEnd
from cable_client.feed import change_name as change_name, record_name as record_name
from cable_client.mirror import Entity as Entity, Mirror as Mirror
from cable_client.positions import FilePosition as FilePosition, MemoryPosition as MemoryPosition
from cable_client.positions import PositionStore as PositionStore
from cable_client.v1 import FeedFilter as FeedFilter, Position as Position
