#!/usr/bin/env python3
"""Checks the links and names of every Markdown file of this repository. No network is used.

    tests/docs/links.py [ROOT]

- A relative link leads to a file or directory in git, and its fragment to a heading, by GitHub's rule for anchors.
- docs/README.md links to every page in docs/.
- A document links to every picture in docs/images.
- An address of another site has a scheme of SCHEMES and a host.
- Within a text, `cable ...` in code names commands and options of docs/reference/cli.md.
- Likewise, a setting, such as `server.listen`, and a metric, such as `cable_rpc_seconds`, is in the reference.
"""

import pathlib
import re
import subprocess
import sys
import urllib.parse

SCHEMES = ("http", "https", "mailto")
# Markdown that is test data, not documentation.
NO_DOCUMENTS = re.compile(r"fuzz/corpus/|crates/cable-import/tests/|demo/")

FENCE = re.compile(r"^(```|~~~)")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(\s*<?([^)\s>]*)>?(?:\s+\"[^\"]*\")?\s*\)")
DEFINITION = re.compile(r"^\[[^\]]+\]:\s*<?(\S+?)>?\s*$")
AUTOLINK = re.compile(r"<((?:https?|mailto):[^>\s]*)>")
CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def without_fences(text):
    """The text with empty lines in place of fenced blocks and comments, so that lines keep their numbers."""
    lines, fence = [], None
    for line in text.splitlines():
        found = FENCE.match(line)
        if found and fence in (None, found[1]):
            fence = None if fence else found[1]
            lines.append("")
        else:
            lines.append("" if fence else line)
    return re.sub(r"<!--.*?-->", lambda match: "\n" * match[0].count("\n"), "\n".join(lines), flags=re.DOTALL)


def without_code(text):
    return CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def slug(heading):
    """The anchor that GitHub gives to a heading."""
    shown = LINK.sub(lambda match: match[2], heading)
    shown = re.sub(r"[`*]", "", shown).strip().lower()
    return re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")


def anchors(text):
    found, counts = set(), {}
    for line in without_fences(text).splitlines():
        heading = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if heading:
            anchor = slug(heading[1])
            number = counts.get(anchor, 0)
            counts[anchor] = number + 1
            found.add(f"{anchor}-{number}" if number else anchor)
        found.update(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", line))
    return found


def links(text):
    """Line number and target of each link; whether it is a picture."""
    text = without_code(without_fences(text))
    found = []
    # A link may continue on the next line.
    for match in LINK.finditer(text):
        found.append((text.count("\n", 0, match.start()) + 1, match[3], bool(match[1])))
    for number, line in enumerate(text.splitlines(), 1):
        found += [(number, match, False) for match in AUTOLINK.findall(line)]
        definition = DEFINITION.match(line)
        if definition:
            found.append((number, definition[1], False))
    return found


class Checker:
    def __init__(self, root, files):
        self.root, self.errors = root, []
        self.files = set(files)
        self.directories = {str(parent) for file in files for parent in pathlib.PurePosixPath(file).parents}
        self.documents = sorted(file for file in files if file.endswith(".md") and not NO_DOCUMENTS.match(file))
        self.texts = {file: (root / file).read_text(encoding="utf-8") for file in self.documents}
        self.anchors = {file: anchors(text) for file, text in self.texts.items()}
        self.targets = {file: set() for file in self.documents}

    def error(self, file, line, text):
        self.errors.append(f"{file}:{line}: {text}")

    def check(self):
        for file in self.documents:
            for line, target, picture in links(self.texts[file]):
                self.check_link(file, line, target, picture)
        self.check_index()
        self.check_pictures()
        self.check_names()
        return self.errors

    def check_link(self, file, line, target, picture):
        if not target:
            return self.error(file, line, "the link has no target")
        # An item of a crate's documentation: rustdoc checks it.
        if file.startswith("crates/") and re.fullmatch(r"[A-Z]\w*(?:::\w+)+", target):
            return None
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", target)
        if scheme:
            parts = urllib.parse.urlsplit(target)
            if parts.scheme not in SCHEMES:
                self.error(file, line, f"{target}: the scheme must be one of {', '.join(SCHEMES)}")
            elif parts.scheme != "mailto" and not re.fullmatch(r"[\w.-]+(?::\d+)?", parts.netloc):
                self.error(file, line, f"{target}: no host")
            return None
        path, _, fragment = target.partition("#")
        if path.startswith("/"):
            return self.error(file, line, f"{target}: an absolute path; use one relative to this page")
        resolved = file
        if path:
            resolved = normal(pathlib.PurePosixPath(file).parent / urllib.parse.unquote(path))
            if resolved not in self.files and resolved not in self.directories:
                return self.error(file, line, f"{target}: no such file in git")
        self.targets[file].add(resolved)
        if picture and fragment:
            self.error(file, line, f"{target}: the link to a picture has a fragment")
        elif fragment and resolved.endswith(".md") and fragment not in self.anchors.get(resolved, set()):
            self.error(file, line, f"{target}: no heading with this anchor")
        return None

    def check_index(self):
        index = "docs/README.md"
        if index not in self.texts:
            return self.error(index, 1, "the index is missing")
        for file in self.documents:
            if file.startswith("docs/") and file != index and file not in self.targets[index]:
                self.error(index, 1, f"does not list {file}")
        return None

    def check_pictures(self):
        shown = set().union(*self.targets.values()) if self.targets else set()
        for file in sorted(self.files):
            if file.startswith("docs/images/") and file.endswith((".png", ".svg", ".jpg", ".gif")) and file not in shown:
                self.error(file, 1, "no document shows this picture")

    def check_names(self):
        reference = {name: self.texts.get(f"docs/reference/{name}.md", "") for name in ("cli", "settings", "metrics")}
        if not all(reference.values()):
            return self.error("docs/reference", 1, "cli.md, settings.md or metrics.md is missing")
        commands = command_options(reference["cli"])
        settings = set(re.findall(r"^### `([\w.]+)`", reference["settings"], re.MULTILINE))
        groups = {setting.split(".")[0] for setting in settings}
        metrics = set(re.findall(r"^## `(\w+)`", reference["metrics"], re.MULTILINE))
        for file in self.documents:
            # They have names of other versions and of results, and the reference itself.
            if file == "CHANGELOG.md" or file.startswith(("docs/reference/", "bench/results/")):
                continue
            text = without_fences(self.texts[file])
            for match in CODE.finditer(text):
                line, code = text.count("\n", 0, match.start()) + 1, " ".join(match[1].split())
                unknown = unknown_name(code, commands, settings, groups, metrics)
                if unknown:
                    self.error(file, line, unknown)
        return None


def command_options(reference):
    """The commands of the program, each with its options."""
    parts = re.split(r"^## (cable[^\n]*)\n", reference, flags=re.MULTILINE)
    return {name: set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text)) for name, text in zip(parts[1::2], parts[2::2])}


def unknown_name(code, commands, settings, groups, metrics):
    """An error if a piece of code names an unknown command, option, setting or metric; None otherwise."""
    if code.startswith("cable "):
        words = code.split()
        name, at = "cable", 1
        while at < len(words) and f"{name} {words[at]}" in commands:
            name, at = f"{name} {words[at]}", at + 1
        has_commands = any(other.startswith(name + " ") for other in commands)
        if at < len(words) and has_commands and re.fullmatch(r"[a-z][a-z-]*", words[at]) and words[at] != "help":
            return f"`{code}`: `{name}` has no command `{words[at]}`"
        for word in words[at:]:
            option = re.match(r"--[a-z][a-z0-9-]*", word)
            if word == "--" or word in ("|", "&&"):
                break
            if option and option[0] not in commands.get(name, set()) | {"--help", "--version"}:
                return f"`{code}`: `{name}` has no option `{option[0]}`"
        return None
    if re.fullmatch(r"[a-z]+\.[a-z_]+", code) and code.split(".")[0] in groups and code not in settings:
        # A file name, such as `cable.toml`, has an extension.
        if not re.search(r"\.(?:toml|md|rs|go|proto|pem|key|json|db|service|socket|log)$", code):
            return f"`{code}`: no such setting in docs/reference/settings.md"
    if re.fullmatch(r"cable_[a-z_]+_(?:total|seconds|bytes)", code) and code not in metrics:
        return f"`{code}`: no such metric in docs/reference/metrics.md"
    return None


def normal(path):
    parts = []
    for part in path.parts:
        if part == "..":
            if not parts:
                return "../" + str(path)
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts) or "."


def tracked(root):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)
    return [file for file in listed.stdout.split("\0") if file and (root / file).exists()]


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
    checker = Checker(root, tracked(root))
    errors = checker.check()
    for error in errors:
        print(error)
    count = sum(len(links(text)) for text in checker.texts.values())
    print(f"{count} links in {len(checker.documents)} documents, {len(errors)} errors")
    sys.exit(bool(errors))


if __name__ == "__main__":
    main()
