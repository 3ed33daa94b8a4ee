"""The descriptions of methods, of which `v1.methods` has one for each RPC."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

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


class Caller(ABC):
    """A client, as the generated calls use it."""

    @abstractmethod
    async def call(self, method: Method[Q, R], request: Q, *, timeout: float | None = None) -> R:
        """Makes a call with one response."""

    @abstractmethod
    def items(self, method: Method[Q, R], request: Q, field: str, timeout: float | None = None) -> AsyncIterator[Any]:
        """Iterates over the items of a listing."""
