"""The descriptions of methods, of which `v1.methods` has one for each RPC, and the base of what is closed."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

C = TypeVar("C", bound="Closing")
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


class Closing:
    """An object for `async with`, which closes it at the end."""

    async def aclose(self) -> None:
        """Ends the object, and releases what it holds."""

    async def __aenter__(self: C) -> C:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
