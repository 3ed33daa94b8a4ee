"""Writes the generated code of the package: messages, type stubs and the table of methods.

usage: generate.py [--check]: with --check, fails if the committed code is out of date.
"""

import argparse
import ast
import filecmp
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
PROTO = ROOT.parent.parent / "proto"
PACKAGE = ROOT / "src" / "cable_client"
GENERATED = ["v1", "_error_details_pb2.py", "_error_details_pb2.pyi"]
MAPPING = ("__getitem__", "__iter__", "__len__")
HEADER = '"""{} Written by generate.py: do not edit."""\n\n'


def main() -> int:
    """Generates the code and installs it, or compares it with the committed code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the committed code")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        generate(out)
        stale = [name for name in GENERATED if differs(out / name, PACKAGE / name)]
        if check:
            for name in stale:
                print(f"{PACKAGE / name} is out of date: run sdk/python/generate.py", file=sys.stderr)
            return 1 if stale else 0
        for name in stale:
            target = PACKAGE / name
            if target.is_dir():
                shutil.rmtree(target)
            target.unlink(missing_ok=True)
            shutil.move(out / name, target)
            print(f"wrote {target}")
    return 0


def generate(out: Path) -> None:
    """Writes all generated code to a directory."""
    # The stubs come from a plug-in beside this interpreter, whatever PATH is.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("cable/v1/*.proto"))
    compile_protos(PROTO, out, sources, ["--include_source_info", f"--descriptor_set_out={out / 'set'}"])
    package = out / "v1"
    (out / "cable" / "v1").rename(package)
    (out / "cable").rmdir()
    for path in package.iterdir():
        import_within_package(path)
    files = descriptor_pb2.FileDescriptorSet.FromString((out / "set").read_bytes())
    (package / "__init__.py").write_text(exports(files))
    (package / "methods.py").write_text(methods(files))
    (package / "calls.py").write_text(calls(files))
    (package / "sync_calls.py").write_text(sync_calls(files))
    compile_protos(ROOT / "proto", out, ["error_details.proto"], [])
    for suffix in [".py", ".pyi"]:
        (out / f"error_details_pb2{suffix}").rename(out / f"_error_details_pb2{suffix}")


def compile_protos(include: Path, out: Path, sources: list[str], options: list[str]) -> None:
    """Runs the compiler that grpcio-tools contains."""
    well_known = Path(protoc.__file__).parent / "_proto"
    outputs = [f"--python_out={out}", f"--mypy_out=quiet:{out}"]
    arguments = ["protoc", f"-I{include}", f"-I{well_known}", *outputs, *options, *sources]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed: is mypy-protobuf installed? pip install -e '.[dev]'")


def import_within_package(path: Path) -> None:
    """Turns `from cable.v1 import` into an import within the package, so that no path need be set."""
    text = re.sub(r"^from cable\.v1 import ", "from cable_client.v1 import ", path.read_text(), flags=re.M)
    path.write_text(text)


def exports(files: descriptor_pb2.FileDescriptorSet) -> str:
    """Returns the module `cable_client.v1`, which has all messages, enums and enum values."""
    lines = [HEADER.format("The messages of cable.v1.")]
    for file in files.file:
        module = file.name.removeprefix("cable/v1/").removesuffix(".proto")
        names = [message.name for message in file.message_type] + [enum.name for enum in file.enum_type]
        names += [value.name for enum in file.enum_type for value in enum.value]
        if names:
            lines.append(f"from cable_client.v1.{module}_pb2 import (\n")
            lines += [f"    {name} as {name},\n" for name in sorted(names)]
            lines.append(")\n")
    return "".join(lines)


def find_methods(
    files: descriptor_pb2.FileDescriptorSet,
) -> Iterator[tuple[str, str, descriptor_pb2.MethodDescriptorProto]]:
    """Yields the service, the comment and the descriptor of each method without a client stream."""
    for file in files.file:
        comments = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}
        for index, service in enumerate(file.service):
            for number, method in enumerate(service.method):
                if not method.client_streaming:
                    yield service.name, comments[(6, index, 2, number)], method


def methods(files: descriptor_pb2.FileDescriptorSet) -> str:
    """Returns the module `cable_client.v1.methods`: a typed constant for each method."""
    requests = find_messages(files)
    text = HEADER.format("The methods of cable.v1.") + "from cable_client import v1\n"
    text += "from cable_client._method import Method, StreamMethod\n\n"
    for service, _, method in find_methods(files):
        path = f"/cable.v1.{service}/{method.name}"
        writes = any(field.name == "request_id" for field in requests[method.input_type].field)
        kind = "StreamMethod" if method.server_streaming else "Method"
        request, response = short(method.input_type), short(method.output_type)
        text += f'{constant(method)} = {kind}("{path}", v1.{request}, v1.{response}, writes={writes})\n'
    return text


def calls(files: descriptor_pb2.FileDescriptorSet) -> str:
    """Returns the module `cable_client.v1.calls`: a method of the client for each call with one response.

    The fields of the request are its arguments. A listing is an iterator, which follows the page tokens.
    """
    text = HEADER.format("The calls of the client, one for each method with one response.") + CALLS_IMPORTS
    text += CALLS_BASE
    return text + "".join(signatures(files, is_sync=False)) + feeds(files, is_sync=False)


def sync_calls(files: descriptor_pb2.FileDescriptorSet) -> str:
    """Returns the module `cable_client.v1.sync_calls`: what the synchronous client has in common with the other."""
    text = HEADER.format("The calls of the synchronous client.") + SYNC_IMPORTS
    text += (
        "\nclass SyncCalls(Blocking):\n"
        + '    """The calls of cable.v1, each of which blocks. `timeout` is in seconds."""\n'
    )
    text += "".join(signatures(files, is_sync=True)) + feeds(files, is_sync=True) + blocking_methods("client", "Cable")
    for module, name in [("feed", "Feed"), ("mirror", "Mirror")]:
        text += f'\n\nclass Sync{name}(Blocking):\n    """The members of a `{name}`. Its methods block."""\n'
        text += blocking_methods(module, name)
    return text


def blocking_methods(module: str, name: str) -> str:
    """Returns the public members of a class of the client, with their types. Those that wait block."""
    source = (PACKAGE / f"{module}.py").read_text()
    found = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name)
    text = ""
    for method in found.body:
        if not isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if method.name == "__init__":
            text += constructor(module, name, method) if name == "Cable" else attributes(source, method)
        if method.name in ("aclose", "items", "follow") or (method.name[0] == "_" and method.name not in MAPPING):
            continue
        result = ast.unparse(method.returns) if method.returns else ""
        is_list = result.startswith("AsyncIterator")
        result = result.removeprefix("Async")
        is_property = bool(method.decorator_list)
        call = f"self._wrapped.{method.name}" + ("" if is_property else f"({', '.join(passed(method))})")
        if is_list or isinstance(method, ast.AsyncFunctionDef):
            call = f"{'iterate' if is_list else 'run'}({call})"
        text += ("\n    @property" if is_property else "") + f"\n    def {method.name}({ast.unparse(method.args)})"
        text += f" -> {result}:\n" + docstring(ast.get_docstring(method) or "As of a mapping.")
        text += f"        {call}\n" if result == "None" else returned(result, call)
    return text


def constructor(module: str, name: str, method: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Returns the constructor that has the arguments of another class, and wraps an object of it."""
    text = f"\n    def __init__({ast.unparse(method.args)}) -> None:\n" + docstring(ast.get_docstring(method) or "")
    text += f"        from cable_client import {module}\n\n"
    return text + f"        super().__init__({module}.{name}({', '.join(passed(method))}))\n"


def attributes(source: str, method: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Returns a property for each public attribute that a constructor sets. The line above it describes it."""
    text = ""
    for node in method.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute) and node.target.attr[0] != "_":
            name, result = node.target.attr, ast.unparse(node.annotation)
            text += f"\n    @property\n    def {name}(self) -> {result}:\n"
            text += docstring(source.splitlines()[node.lineno - 2].strip().removeprefix("#: "))
            text += returned(result, f"self._wrapped.{name}")
    return text


def passed(method: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Returns the arguments by which a method is called with its own ones."""
    return [argument.arg for argument in method.args.args[1:]] + [
        f"{argument.arg}={argument.arg}" for argument in method.args.kwonlyargs
    ]


def returned(result: str, call: str) -> str:
    """Returns the statements that return the result of a call, with its type."""
    return f"        result: {result} = {call}\n        return result\n"


def signatures(files: descriptor_pb2.FileDescriptorSet, is_sync: bool) -> Iterator[str]:
    """Yields the method of the client for each call with one response."""
    messages = find_messages(files)
    for _, comment, method in find_methods(files):
        if method.server_streaming:
            continue
        request, response = messages[method.input_type], messages[method.output_type]
        is_list = any(field.name == "page_token" for field in request.field)
        # An iterator sets the page token, and has no response that could be unmodified.
        omitted = ("page_token", "if_none_match") if is_list else ()
        fields = [field for field in request.field if field.name not in omitted]
        first = [argument(field, is_first=not is_list) for field in fields[:1]]
        rest = [argument(field) for field in fields[1:]]
        arguments = ["self", *first, "*", *rest, "timeout: float | None = None"]
        values = ", ".join(f"{field.name}={field.name}" for field in fields)
        arguments_passed = f"{values}, timeout=timeout".removeprefix(", ")
        result, send = f"v1.{response.name}", f"await self.call(methods.{constant(method)}, request, timeout=timeout)"
        if is_list:
            items = next(field for field in response.field if field.label == field.LABEL_REPEATED)
            result = f"AsyncIterator[v1.{short(items.type_name)}]"
            send = f'self.items(methods.{constant(method)}, request, "{items.name}", timeout)'
        name, coroutine = constant(method).lower(), "" if is_list or is_sync else "async "
        body = f"        request = v1.{request.name}({values})\n        return {send}\n"
        if is_sync:
            result = result.removeprefix("Async")
            body = returned(result, f"{'iterate' if is_list else 'run'}(self._wrapped.{name}({arguments_passed}))")
        signature = f"    {coroutine}def {name}(\n" + "".join(f"        {part},\n" for part in arguments)
        yield f"\n{signature}    ) -> {result}:\n{docstring(comment)}{body}"


def feeds(files: descriptor_pb2.FileDescriptorSet, is_sync: bool) -> str:
    """Returns the methods `feed` and `mirror`, whose arguments are the fields of WatchRequest and the client's own."""
    fields = find_messages(files)[".cable.v1.WatchRequest"].field
    assert fields[0].name == "filter"
    text = ""
    for name, doc in [("feed", FEED_DOC), ("mirror", MIRROR_DOC)]:
        fixed = ["snapshot", "after", "allow_reset", "include_backfill"] if name == "mirror" else []
        own = [field for field in fields[1:] if field.name not in (*fixed, "checkpoint_interval")]
        # A mirror starts with a snapshot: a stored position without its content would leave a gap.
        others = [keyword for keyword in FEED_ARGUMENTS if not (name == "mirror" and keyword.startswith("store"))]
        keywords = [argument(field) for field in own] + others
        names = [field.name for field in own] + [keyword.partition(":")[0] for keyword in others]
        given = ", ".join(f"{name}={name}" for name in ["filter", *names])
        if is_sync:
            # The feed of a mirror is read by the loop, which a handler that calls the client must not hold up.
            if name == "mirror":
                given = given.replace(
                    "on_retry=on_retry", "on_retry=on_retry and (lambda error: to_thread(on_retry, error))"
                )
            body = f"sync.{name.title()}(self._wrapped.{name}({given}))"
        elif name == "mirror":
            body = f"Mirror(self.feed({given}, snapshot=True, allow_reset=True, include_backfill=True))"
        else:
            fields_passed = [f"{field.name}={field.name}" for field in own if field.name not in ("after", "snapshot")]
            text_of_request = ", ".join(["filter=filter", *fields_passed])
            body = f"self.follow(v1.WatchRequest({text_of_request}), {', '.join(FEED_PASSED)})"
        result = ("sync." if is_sync else "") + name.title()
        arguments = ["self", argument(fields[0]), "*", *keywords]
        text += f"\n    def {name}(\n" + "".join(f"        {part},\n" for part in arguments)
        text += f"    ) -> {result}:\n" + docstring(doc)
        if is_sync:
            text += "        from cable_client import sync\n\n"
        elif name == "mirror":
            text += "        from cable_client.mirror import Mirror\n\n"
        text += f"        return {body}\n"
    return text


FEED_ARGUMENTS = [
    "checkpoint_interval: float = 10.0",
    "max_commit_bytes: int | None = None",
    "store: PositionStore | None = None",
    "on_retry: Callable[[CableError], None] | None = None",
]
FEED_PASSED = ["after", "snapshot", "checkpoint_interval", "store", "max_commit_bytes", "on_retry"]
FEED_DOC = """Follows the changes to what a filter matches: from now, `after` a position, or with a `snapshot`.

A position in the `store` takes precedence over the start. `allow_reset` lets the server restart the feed with a
snapshot if it cannot resume it; otherwise it ends with LOG_CHANGED or REVISION_COMPACTED. After a silence of three
times the `checkpoint_interval`, in seconds, the feed reconnects. `on_retry` receives each error.

With a `consumer` and no `store`, the node stores the position under this name, and starts the next feed of the name
after it, unless that one starts `after` another.
"""
MIRROR_DOC = """Returns a copy of what a filter matches, which `with` opens and keeps up to date; see `feed`.

As a `consumer`, it acknowledges what it has applied, which shows its lag. It starts with a snapshot nevertheless.
"""


SYNC_IMPORTS = """from __future__ import annotations

from asyncio import to_thread
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from cable_client import v1
from cable_client._blocking import Blocking, iterate, run
from cable_client._method import Method, Q, R

if TYPE_CHECKING:
    from google.protobuf.field_mask_pb2 import FieldMask

    from cable_client import sync
    from cable_client._transport import TokenSource
    from cable_client.client import Pem
    from cable_client.errors import CableError
    from cable_client.mirror import Entity
    from cable_client.positions import PositionStore

"""

CALLS_IMPORTS = """from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any

from cable_client import v1
from cable_client._method import Method, Q, R
from cable_client.v1 import methods

if TYPE_CHECKING:
    from google.protobuf.field_mask_pb2 import FieldMask

    from cable_client.errors import CableError
    from cable_client.feed import Feed
    from cable_client.mirror import Mirror
    from cable_client.positions import PositionStore

"""

CALLS_BASE = """
class Calls(ABC):
    \"\"\"The calls of cable.v1. `timeout` is in seconds.\"\"\"

    @abstractmethod
    async def call(self, method: Method[Q, R], request: Q, *, timeout: float | None = None) -> R:
        \"\"\"Makes a call with one response.\"\"\"

    @abstractmethod
    def items(
        self, method: Method[Q, R], request: Q, field: str, timeout: float | None = None
    ) -> AsyncIterator[Any]:
        \"\"\"Iterates over the items of a listing.\"\"\"

    @abstractmethod
    def follow(
        self,
        request: v1.WatchRequest,
        after: v1.Position | None,
        snapshot: bool,
        interval: float,
        store: PositionStore | None,
        max_commit_bytes: int | None,
        on_retry: Callable[[CableError], None] | None,
    ) -> Feed:
        \"\"\"Returns a feed.\"\"\"
"""


def argument(field: descriptor_pb2.FieldDescriptorProto, is_first: bool = False) -> str:
    """Returns the parameter for a field of a request."""
    name = short(field.type_name)
    types = {
        field.TYPE_STRING: ("str", '""'),
        field.TYPE_BOOL: ("bool", "False"),
        field.TYPE_INT32: ("int", "0"),
        field.TYPE_INT64: ("int", "0"),
        field.TYPE_MESSAGE: (f"v1.{name}" if field.type_name.startswith(".cable") else name, "None"),
        field.TYPE_ENUM: (f"v1.{name}.ValueType", "0"),
    }
    kind, default = types[field.type]
    if field.type == field.TYPE_ENUM:
        default = f"v1.{re.sub(r'(?<=[a-z])(?=[A-Z])', '_', name).upper()}_UNSPECIFIED"
    if field.label == field.LABEL_REPEATED:
        kind, default = f"Iterable[{kind}]", "()"
    elif is_first:
        return f"{field.name}: {kind}"
    elif default == "None":
        kind += " | None"
    return f"{field.name}: {kind} = {default}"


def docstring(comment: str) -> str:
    """Returns the comment of a method as a docstring."""
    lines = [line.strip() for line in comment.strip().splitlines()]
    text = "\n".join(f"        {line}".rstrip() for line in lines).strip()
    end = "\n        " if len(lines) > 1 else ""
    return f'        """{text}{end}"""\n'


def find_messages(files: descriptor_pb2.FileDescriptorSet) -> dict[str, descriptor_pb2.DescriptorProto]:
    """Returns all messages by full name."""
    return {f".cable.v1.{message.name}": message for file in files.file for message in file.message_type}


def constant(method: descriptor_pb2.MethodDescriptorProto) -> str:
    """Returns the name of a method as a constant: `GET_ARTICLE`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", method.name).upper()


def short(name: str) -> str:
    """Returns the last part of a full name."""
    return name.rpartition(".")[2]


def differs(new: Path, old: Path) -> bool:
    """Returns whether a generated file or directory differs from the committed one."""
    if new.is_file():
        return not old.is_file() or new.read_bytes() != old.read_bytes()
    if not old.is_dir():
        return True
    names = [{path.name for path in side.iterdir() if path.name != "__pycache__"} for side in (new, old)]
    if names[0] != names[1]:
        return True
    _, mismatches, errors = filecmp.cmpfiles(new, old, sorted(names[0]), shallow=False)
    return bool(mismatches or errors)


if __name__ == "__main__":
    sys.exit(main())
