"""The package itself: the size of what is written by hand."""

import ast
import io
import tokenize
from pathlib import Path

import cable_client

LIMIT = 900
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def lines_of_code(text: str) -> int:
    """Returns the number of lines without blank lines, comments and docstrings."""
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if ast.get_docstring(node) is not None and first is not None:
                lines -= set(range(first.lineno, (first.end_lineno or 0) + 1))
    return len(lines)


def test_the_library_stays_small() -> None:
    """The generated code and the helper for tests do not count."""
    directory = Path(cable_client.__file__).parent
    others = {"testing.py", "_error_details_pb2.py"}
    counts = {path.name: lines_of_code(path.read_text()) for path in directory.glob("*.py") if path.name not in others}
    assert len(counts) > 5
    assert sum(counts.values()) <= LIMIT, counts
