#!/usr/bin/env python3
"""Checks that the text of Markdown files is wrapped at 100 columns. Tables, code and words that are longer may exceed it.

    tests/prose/width.py FILE...
"""

import re
import sys

COLUMNS = 100
FENCE = re.compile(r"\s*(?:```|~~~)")
# What begins a line and belongs to no word: a quote, a list.
LEAD = re.compile(r"[\s>]*(?:[-*+] |\d+[.)] )?")


def long_lines(text):
    """The numbers of the lines that could be wrapped."""
    in_code = False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            in_code = not in_code
        elif len(line) > COLUMNS and not in_code and not line.startswith(("|", "    ", "<!--")):
            words = line[LEAD.match(line).end() : COLUMNS + 1]
            if " " in words:
                yield number


def main():
    found = [f"{file}:{number}" for file in sys.argv[1:] for number in long_lines(open(file, encoding="utf-8").read())]
    for place in found:
        print(f"{place}: more than {COLUMNS} columns: wrap the line")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
