"""The descriptions of methods, of which `v1.methods` has one for each RPC."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)


@dataclass(frozen=True)
class Method(Generic[Q, R]):
    """A method with one response."""

    path: str
    request: type[Q]
    response: type[R]
    writes: bool


class StreamMethod(Method[Q, R]):
    """A method that responds with a stream."""
