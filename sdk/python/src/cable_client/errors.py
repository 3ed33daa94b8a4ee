"""The errors of calls, feeds and mirrors."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from cable_client._error_details_pb2 import BadRequest, ErrorInfo, RetryInfo, Status
from cable_client.v1 import Damage

D = TypeVar("D", bound=Message)

# The texts by which grpc describes a failure of its own. A server sends details with each of its errors.
_UNREACHED = re.compile(r"failed to connect|resolution failed|resolve", re.IGNORECASE)
_LOST = re.compile(r"RST_STREAM|GOAWAY|stream (removed|closed)|socket|connection|transport", re.IGNORECASE)


_UNKNOWN_OUTCOMES = ("DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL")


class Violation(NamedTuple):
    """The problem with one field of a request, such as `article.tags[3]`."""

    field: str
    description: str


class CableError(Exception):
    """A call, feed or mirror that failed. Decide by `reason` if there is one, else by `code`, never by the text."""

    #: The reason that the server stated, as in `ErrorReason` without its prefix: `ARTICLE_NOT_FOUND`.
    reason: str | None = None
    #: The invalid fields of the request.
    violations: Sequence[Violation] = ()
    #: The metadata of the reason, such as `etag` of ETAG_MISMATCH.
    metadata: Mapping[str, str] = MappingProxyType({})
    #: The seconds to wait before another attempt, if the server requested it.
    retry_after: float | None = None
    #: Whether a write may have been applied although it failed. The same request id settles it.
    may_have_applied = False

    def __init__(self, code: grpc.StatusCode, message: str, connection: str = "") -> None:
        super().__init__(message)
        #: The status code, and the text, for people.
        self.code, self.message = code, message
        # Whether the connection could not be established (`unreached`) or was `lost` during the call.
        self._connection = connection

    @property
    def field(self) -> str | None:
        """The first invalid field of the request."""
        return self.violations[0].field if self.violations else None

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later: after UNAVAILABLE, a timeout, or a refusal with a delay.

        The client has made its own attempts already, which it does after UNAVAILABLE and within the timeout.
        """
        return self.code.name in ("UNAVAILABLE", "DEADLINE_EXCEEDED") or self.retry_after is not None

    def __str__(self) -> str:
        return f"{self.message} ({self.reason or self.code.name})"

    def _settle(self, in_doubt: bool) -> bool:
        """Sets and returns `may_have_applied` of a write, whose earlier attempts may be in doubt.

        A server looks up the request id before it refuses a write: a refusal settles earlier attempts too.
        """
        is_unavailable = self.code is grpc.StatusCode.UNAVAILABLE
        is_lost = self._connection == "lost" or (is_unavailable and self.reason in (None, "OUTCOME_UNKNOWN"))
        is_unknown = self._connection != "unreached" and (is_lost or self.code.name in _UNKNOWN_OUTCOMES)
        self.may_have_applied = is_unknown or (in_doubt and is_unavailable)
        return self.may_have_applied


class NotFoundError(CableError):
    """The name does not exist: it was never put, was removed, or moved."""


class _ClientError(CableError):
    _code = grpc.StatusCode.INTERNAL

    def __init__(self, message: str) -> None:
        super().__init__(self._code, message)


class ConfigError(_ClientError, ValueError):
    """A setting or an argument that the client refuses, or a client that is closed."""

    _code = grpc.StatusCode.INVALID_ARGUMENT


class TooLargeError(_ClientError):
    """A message or a commit that is larger than this client accepts."""

    _code = grpc.StatusCode.RESOURCE_EXHAUSTED


class MalformedError(_ClientError):
    """A message that breaks the contract of its service."""


class PositionStoreError(_ClientError):
    """The position of a feed that could not be loaded or saved."""


def from_rpc(error: Any, server: str) -> CableError:
    """Returns the error for a status, which the server sent or grpc created."""
    code, text = error.code(), error.details() or ""
    status = Status()
    with contextlib.suppress(DecodeError, TypeError):
        status.ParseFromString(dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b""))
    if not status.details:
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return CableError(code, f"no response from {server} before the deadline")
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in text:
            return TooLargeError(f"{text}; Cable sends at most 3.5 MiB: check for a proxy that merges messages")
        if code is grpc.StatusCode.UNAVAILABLE or (code.name in _UNKNOWN_OUTCOMES and _LOST.search(text)):
            connection = "unreached" if _UNREACHED.search(text) else "lost"
            problem = f"cannot reach {server}" if connection == "unreached" else f"connection to {server} lost"
            return CableError(grpc.StatusCode.UNAVAILABLE, f"{problem}: {text}", connection)
    failed = (NotFoundError if code is grpc.StatusCode.NOT_FOUND else CableError)(code, text or server)
    if (info := _detail(status, ErrorInfo)) and info.domain == "cable.v1":
        failed.reason, failed.metadata = info.reason, dict(info.metadata)
    if bad := _detail(status, BadRequest):
        failed.violations = [Violation(found.field, found.description) for found in bad.field_violations]
    if retry := _detail(status, RetryInfo):
        failed.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    return failed


def incomplete(damage: Damage) -> CableError:
    """Returns the error of a listing that lacks records, which the server cannot read."""
    problem = "the database of the server is damaged" if damage.database else f"{damage.count} unreadable records"
    error = CableError(grpc.StatusCode.DATA_LOSS, f"incomplete: {problem}")
    error.reason, error.metadata = "RECORD_CORRUPT", {"damaged": " ".join(damage.names)}
    return error


def _detail(status: Status, kind: type[D]) -> D | None:
    """Returns the detail of a kind. One that cannot be read, of a proxy, counts as absent."""
    with contextlib.suppress(DecodeError):
        for detail in status.details:
            if detail.type_url.endswith(f"/google.rpc.{kind.DESCRIPTOR.name}"):
                return kind.FromString(detail.value)
    return None
