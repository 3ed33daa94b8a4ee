#!/usr/bin/env python3
"""Draws the diagrams of the documents: docs/images/*.svg.

    docs/images/draw.py            writes them
    docs/images/draw.py --check    fails if a file is not what this program draws

A picture that names a message, field or value that proto/ does not have is not drawn, nor one that names an unknown
setting. Needs Python 3 alone.
"""

import argparse
import pathlib
import re
import sys
from html import escape

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parents[1] / "proto/cable/v1"
SETTINGS = (HERE.parents[1] / "docs/reference/settings.md").read_text(encoding="utf-8")

# Light and dark: background, text, notes, frames and boxes; then one colour for each kind of line.
COLOURS = {
    "back": ("#ffffff", "#0d1117"),
    "text": ("#1f2328", "#e6edf3"),
    "note": ("#59636e", "#9198a1"),
    "frame": ("#d1d9e0", "#3d444d"),
    "box": ("#f6f8fa", "#151b23"),
    "own": ("#bf3989", "#f778ba"),
    "blue": ("#0969da", "#58a6ff"),
    "green": ("#1a7f37", "#3fb950"),
    "red": ("#cf222e", "#ff7b72"),
}

# Widths of a character in parts of the size of the font. Those of common fonts are at most this wide.
MONO, SANS = 0.61, 0.56


def schema():
    """The fields of each message, with their types, and the values of each enum."""
    found = {}
    for file in sorted(PROTO.glob("*.proto")):
        text = re.sub(r"//.*", "", file.read_text(encoding="utf-8"))
        for name, body in re.findall(r"^(?:message|enum) (\w+) \{(.*?)^\}", text, re.MULTILINE | re.DOTALL):
            found[name] = dict(re.findall(r"\b(\w+) = ()\d+;", body))
            fields = re.findall(r"(?:repeated |optional )?([\w.]+) (\w+) = \d+;", body)
            found[name].update({field: kind for kind, field in fields})
        for service, body in re.findall(r"^service (\w+) \{(.*?)^\}", text, re.MULTILINE | re.DOTALL):
            found[service] = dict.fromkeys(re.findall(r"\brpc (\w+)\(", body), "")
    return found


SCHEMA = schema()


def known(message, path=""):
    """Fails unless the schema has the message and the field that the path leads to."""
    for name in ["", *path.split(".")] if path else [""]:
        if message not in SCHEMA or (name and name not in SCHEMA[message]):
            raise SystemExit(f"proto/ has no {message}.{name}")
        message = SCHEMA[message][name] if name else message


class Picture:
    """An SVG file. Its elements are drawn in the order of the calls."""

    def __init__(self, name, width, height, title, description):
        self.name, self.parts = name, []
        light = "".join(f".{key} {{ --c: {value[0]} }} " for key, value in COLOURS.items())
        dark = "".join(f".{key} {{ --c: {value[1]} }} " for key, value in COLOURS.items())
        self.head = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            ' role="img" aria-labelledby="title description">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="description">{escape(description)}</desc>',
            "<style>",
            "text { fill: var(--c); font: 13px system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif }",
            ".mono { font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace }",
            ".strong { font-weight: 600 } .small { font-size: 12px }",
            ".middle { text-anchor: middle } .end { text-anchor: end }",
            "rect { fill: var(--c) } .tint { fill-opacity: 0.13 }",
            "path { fill: none; stroke: var(--c); stroke-width: 1.5 } .tip { fill: var(--c); stroke: none }",
            ".dash { stroke-dasharray: 4 4 } .thin { stroke-width: 1 }",
            light,
            f"@media (prefers-color-scheme: dark) {{ {dark}}}",
            "</style>",
        ]
        self.rect(0, 0, width, height, "back", radius=8)

    def add(self, tag, classes, content="", **attributes):
        values = "".join(
            f' {name}="{value:g}"' if name != "d" else f' d="{value}"' for name, value in attributes.items()
        )
        end = f">{content}</{tag}>" if content else "/>"
        self.parts.append(f'<{tag} class="{" ".join(classes.split())}"{values}{end}')

    def text(self, x, y, text, colour="text", more=""):
        """A line of text, in which `this` has the font of code."""
        if text:
            content = re.sub(r"`([^`]+)`", r'<tspan class="mono">\1</tspan>', escape(text))
            self.add("text", f"{colour} {more}", content, x=x, y=y)

    def rect(self, x, y, width, height, colour, more="", radius=0):
        self.add("rect", f"{colour} {more}", x=x, y=y, width=width, height=height, rx=radius)

    def path(self, path, colour, more=""):
        self.add("path", f"{colour} {more}", d=path)

    def frame(self, x, y, width, height):
        """The outline of a box with rounded corners."""
        across, down = width - 12, height - 12
        corners = f"h{across:g}q6 0 6 6v{down:g}q0 6 -6 6h{-across:g}q-6 0 -6 -6v{-down:g}q0 -6 6 -6z"
        self.path(f"M{x + 6:g} {y:g}{corners}", "frame", "thin")

    def tip(self, x, y, direction, colour):
        """The head of an arrow that ends at a point: direction (1, 0) points to the right."""
        across, down = direction
        back = (x - 9 * across, y - 9 * down)
        side = (4.5 * down, 4.5 * across)
        base = f"L{back[0] + side[0]:g} {back[1] + side[1]:g}L{back[0] - side[0]:g} {back[1] - side[1]:g}"
        self.path(f"M{x:g} {y:g}{base}z", colour, "tip")

    def route(self, points, colour, more="", radius=6):
        """A line through points with rounded corners and an arrow at its end."""
        path = f"M{points[0][0]:g} {points[0][1]:g}"
        for before, corner, after in zip(points, points[1:], points[2:]):
            enter, leave = toward(corner, before, radius), toward(corner, after, radius)
            path += f"L{enter[0]:g} {enter[1]:g}Q{corner[0]:g} {corner[1]:g} {leave[0]:g} {leave[1]:g}"
        last, before = points[-1], points[-2]
        stop = toward(last, before, 5)
        self.path(path + f"L{stop[0]:g} {stop[1]:g}", colour, more)
        self.tip(*last, (sign(last[0] - before[0]), sign(last[1] - before[1])), colour)

    def elbow(self, x, y, turn, end_x, end_y, colour):
        """A route that leaves and arrives horizontally, with a vertical part at `turn`."""
        self.route([(x, y), (turn, y), (turn, end_y), (end_x, end_y)], colour)

    def svg(self):
        return "\n".join([*self.head, *self.parts, "</svg>"]) + "\n"


def sign(number):
    return (number > 0) - (number < 0)


def toward(start, end, distance):
    return (start[0] + distance * sign(end[0] - start[0]), start[1] + distance * sign(end[1] - start[1]))


class Entity:
    """A message with some of its fields, one a row. A row is a path, with a note at its right side."""

    HEAD, ROW, PAD = 30, 21, 7

    def __init__(self, picture, x, y, width, message, rows, colour="own", title=None):
        known(message)
        self.x, self.y, self.width, self.right = x, y, width, x + width
        self.height = self.HEAD + self.PAD * 2 + self.ROW * len(rows)
        self.middle = x + width / 2
        picture.rect(x, y, width, self.height, "box", radius=6)
        picture.rect(x, y, width, self.HEAD, colour, "tint", radius=6)
        picture.frame(x, y, width, self.height)
        picture.text(x + 12, y + 20, message, more="mono strong")
        if title:
            picture.text(self.right - 12, y + 20, title, "note", "small end")
        self.rows = {}
        for number, (path, note) in enumerate(rows):
            self.rows[path] = y + self.HEAD + self.PAD + self.ROW * (number + 0.5)
            for name in path.split(", "):
                known(message, name)
            if len(path) * MONO * 13 + len(note) * SANS * 12 + 32 > width:
                raise SystemExit(f"{message}.{path}: the row is too narrow")
            picture.text(x + 12, self.rows[path] + 4.5, path, more="mono")
            picture.text(self.right - 12, self.rows[path] + 4, note, "note", "small end")

    @property
    def bottom(self):
        return self.y + self.height

    @property
    def head(self):
        return self.y + self.HEAD / 2


def data_model():
    picture = Picture(
        "data-model",
        800,
        712,
        "The data model of Cable",
        "Five kinds of entity refer to each other by name. A Collection lists articles in an editor's order. An "
        "Article names its section and additional sections, its tags, the authors of its byline, and related "
        "articles. Sections and tags can have a parent. The body is part of the article: a list of blocks, whose "
        "text is a list of spans; the link of a span can name an article. Below: a name holds at most one pending "
        "version and one live version. The pending version becomes live when it is due. A removal leaves a "
        "tombstone with the reason.",
    )
    left, middle, right = 44, 282, 568
    collection = Entity(
        picture, left, 24, 184, "Collection", [("name", "collections/{id}"), ("title", ""), ("articles", "in order")]
    )
    section = Entity(
        picture, left, 178, 184, "Section", [("name", "sections/{id}"), ("display_name", ""), ("parent", "")]
    )
    tag = Entity(
        picture, left, 332, 184, "Tag", [("name", "tags/{id}"), ("display_name", ""), ("kind", ""), ("parent", "")]
    )
    article = Entity(
        picture,
        middle,
        24,
        232,
        "Article",
        [
            ("name", "articles/{id}"),
            ("etag, revision", "by the node"),
            ("headline", ""),
            ("path", "of the URL"),
            ("section", "one"),
            ("additional_sections", "many"),
            ("tags", "many"),
            ("byline.credits.author", "many"),
            ("related.article", "to articles"),
            ("body", ""),
            ("publish_time", ""),
            ("embargo", ""),
            ("expire_time", ""),
        ],
    )
    author = Entity(picture, right, 24, 208, "Author", [("name", "authors/{id}"), ("display_name", "")])
    body = Entity(picture, right, 146, 208, "Body", [("blocks", "many")], "blue")
    block = Entity(
        picture,
        right,
        239,
        208,
        "Block",
        [("id", ""), ("paragraph, image", "...")],
        "blue",
        f"{len(SCHEMA['Block']) - len(['id'])} kinds",
    )
    span = Entity(
        picture, right, 353, 208, "Span", [("text", ""), ("marks", "many"), ("link.article", "to articles")], "blue"
    )
    known("Paragraph", "spans")

    # References, from the field that has the name to the entity.
    gap = (collection.right + middle) / 2
    picture.elbow(collection.right, collection.rows["articles"], gap - 8, middle, article.head, "own")
    picture.elbow(middle, article.rows["section"], gap - 8, section.right, section.head, "own")
    picture.elbow(middle, article.rows["additional_sections"], gap - 8, section.right, section.head, "own")
    picture.elbow(middle, article.rows["tags"], gap + 8, tag.right, tag.head, "own")
    picture.elbow(left, section.rows["parent"], left - 22, left, section.head, "own")
    picture.elbow(left, tag.rows["parent"], left - 22, left, tag.head, "own")
    gap = (article.right + right) / 2
    picture.elbow(article.right, article.rows["byline.credits.author"], gap - 8, right, author.head, "own")
    # Contents.
    picture.elbow(article.right, article.rows["body"], gap + 8, right, body.head, "blue")
    picture.route([(body.middle, body.bottom), (body.middle, block.y)], "blue")
    picture.route([(block.middle, block.bottom), (block.middle, span.y)], "blue")
    for y, colour, meaning in ((402, "own", "names another entity"), (430, "blue", "contains")):
        picture.route([(middle + 14, y), (middle + 58, y)], colour)
        picture.text(middle + 72, y + 4.5, meaning, "note")

    picture.path("M24 492H776", "frame", "thin")
    picture.text(left, 526, "The versions of one name", more="strong")
    width, top = 186, 546
    pending = Entity(
        picture, left, top, width, "PendingArticle", [("article", ""), ("due_time", ""), ("base_revision", "")]
    )
    live = Entity(
        picture,
        (left + right + 208 - width) / 2,
        top,
        width,
        "Article",
        [("state", ""), ("etag", ""), ("revision", "")],
        "own",
        "live version",
    )
    tombstone = Entity(
        picture,
        right + 208 - width,
        top,
        width,
        "Tombstone",
        [("reason", ""), ("moved_to", ""), ("remove_time", "")],
        "red",
    )
    for before, after, label in ((pending, live, "when due"), (live, tombstone, "removal")):
        picture.route([(before.right + 4, before.head), (after.x - 4, after.head)], "note")
        picture.text((before.right + after.x) / 2, before.head - 9, label, "note", "small middle")
    notes = (
        (pending, "not visible to readers;", "only articles have one"),
        (live, "visible to readers;", "a put replaces it"),
        (tombstone, "what a removal leaves:", "the reason, no content"),
    )
    for entity, first, second in notes:
        picture.text(entity.x + 12, entity.bottom + 20, first, "note", "small")
        picture.text(entity.x + 12, entity.bottom + 37, second, "note", "small")
    return picture


class Sequence:
    """Messages between a follower and a node, from top to bottom."""

    FOLLOWER, NODE, ROW = 236, 548, 36

    def __init__(self, picture):
        self.picture, self.y = picture, 64
        for x, name in ((self.FOLLOWER, "follower"), (self.NODE, "node")):
            picture.rect(x - 52, 18, 104, 30, "box", radius=6)
            picture.frame(x - 52, 18, 104, 30)
            picture.text(x, 38, name, more="strong middle")
        self.life(48, self.y)

    def phase(self, title, before=""):
        """Begins a part of the sequence. `before` is what happens before it, while no call is open."""
        picture, start = self.picture, self.y + 6
        self.life(self.y, start)
        picture.path(f"M24 {start:g}H776", "frame", "thin")
        picture.text(24, start + 27, title, more="strong")
        picture.text((self.FOLLOWER + self.NODE) / 2, start + 27, before, "note", "middle")
        self.y = start + 38
        self.life(start, self.y, "dash" if before else "")

    def life(self, start, end, more=""):
        for x in (self.FOLLOWER, self.NODE):
            self.picture.path(f"M{x} {start:g}V{end:g}", "note", f"thin {more}".strip())

    def next_row(self, height=ROW):
        self.life(self.y, self.y + height)
        self.y += height
        return self.y - height / 2

    def watch(self, *fields):
        """A call of Watch, with fields of the request and their values."""
        for field in fields:
            known("WatchRequest", field.split(":")[0])
        y = self.next_row(44)
        self.picture.route([(self.FOLLOWER + 2, y), (self.NODE - 2, y)], "blue")
        self.label(y, "Watch", "blue")
        self.carries(y, *fields)

    def message(self, event, colour, *carried, action=""):
        """A message of the stream, with what it carries and what the follower does."""
        known("WatchResponse", event)
        y = self.next_row(self.ROW if len(carried) < 2 else 44)
        self.picture.route([(self.NODE - 2, y), (self.FOLLOWER + 2, y)], colour)
        self.label(y, event, colour)
        self.carries(y, *carried)
        self.does(y, action, "note")

    def lost(self, event, colour, *carried, action=""):
        """A message that does not arrive, because the connection breaks."""
        known("WatchResponse", event)
        y, end = self.next_row(), self.FOLLOWER + 44
        self.picture.path(f"M{self.NODE - 2} {y:g}H{end + 14}", colour, "dash")
        self.picture.path(f"M{end - 6} {y - 6:g}l12 12m0 -12l-12 12", "red")
        self.label(y, event, colour)
        self.carries(y, *carried)
        self.does(y, action, "red")

    def does(self, y, action, colour):
        if len(action) * SANS * 13 > self.FOLLOWER - 14 - 16:
            raise SystemExit(f"{action}: longer than the left column")
        self.picture.text(self.FOLLOWER - 14, y + 4.5, action, colour, "end")

    def carries(self, y, *lines):
        y += 4.5 - 8.5 * (len(lines) - 1)
        for number, line in enumerate(lines):
            is_note = line.startswith("(")
            self.picture.text(
                self.NODE + 14,
                y + 17 * number,
                line.strip("()"),
                "note" if is_note else "text",
                "small" if is_note else "mono small",
            )

    def label(self, y, name, colour):
        """The name of a message, on its arrow."""
        middle, width = (self.FOLLOWER + self.NODE) / 2, len(name) * 8 + 26
        self.picture.rect(middle - width / 2, y - 12, width, 24, "back", radius=12)
        self.picture.rect(middle - width / 2, y - 12, width, 24, colour, "tint", radius=12)
        self.picture.text(middle, y + 4.5, name, more="mono middle")


def feed_sequence():
    picture = Picture(
        "feed-sequence",
        800,
        922,
        "The course of a feed",
        "A follower calls Watch with a snapshot. The node sends snapshot messages without a position, then "
        "snapshot_end with position 100, and a checkpoint: the follower has caught up. Then come changes at "
        "position 103, a commit of three changes, and a checkpoint at position 120. The connection breaks while "
        "changes at position 124 are in flight. The follower calls Watch after 120, the last position that it has "
        "applied, and receives these changes and a checkpoint. Much later it resumes after 124, which the history "
        "no longer has: the node sends reset with the reason COMPACTED, and then a new snapshot.",
    )
    known("FeedService", "Watch")
    known("WatchResponse", "position.revision")
    known("FeedReset", "reason")
    known("FeedResetReason", "FEED_RESET_REASON_COMPACTED")
    sequence = Sequence(picture)
    sequence.phase("Snapshot")
    sequence.watch("snapshot: true", "allow_reset: true")
    sequence.message("snapshot", "green", "(no position)", action="collect the records")
    sequence.message("snapshot", "green", "(no position)", action="collect the records")
    sequence.message("snapshot_end", "green", "position 100", action="hold exactly these, save 100")
    sequence.message("checkpoint", "note", "position 100", action="caught up")
    sequence.phase("Changes")
    sequence.message("changes", "own", "position 103", "(a commit: 101, 102, 103)", action="apply as one, save 103")
    sequence.message("checkpoint", "note", "position 120", "(nothing else has matched)", action="save 120")
    sequence.phase("Lost connection")
    sequence.lost("changes", "own", "position 124", action="the connection breaks")
    sequence.watch("after: 120", "allow_reset: true")
    sequence.message("changes", "own", "position 124", "(what was missed)", action="apply, save 124")
    sequence.message("checkpoint", "note", "position 124", action="caught up")
    sequence.phase("Lost history", "away for longer than the history")
    sequence.watch("after: 124", "allow_reset: true")
    sequence.message("reset", "red", "reason: COMPACTED", action="drop the copy")
    sequence.message("snapshot", "green", "(no position)", action="collect the records")
    sequence.message("snapshot_end", "green", "position 500", action="hold exactly these, save 500")
    sequence.message("checkpoint", "note", "position 500", action="caught up")
    footnote = "A position is a log id, a revision and a chain hash. The picture shows the revision alone."
    picture.text(24, sequence.y + 34, footnote, "note", "small")
    return picture


def access():
    picture = Picture(
        "access",
        800,
        430,
        "The addresses of a node and their callers",
        "Websites and apps with the role reader, and partners with the role reader and a filter, call the address "
        "server.listen, 127.0.0.1:7190 by default: gRPC, gRPC-Web and HTTP, with TLS. A CMS with the role "
        "publisher calls publish.listen, which is off by default: the same with TLS and credentials, and then the "
        "only address that accepts writes. If it is off, server.listen accepts writes. Monitoring calls "
        "server.ops_listen, 127.0.0.1:7191 by default, without TLS and without credentials: metrics and health. "
        "The node stores its content and hashes of tokens in its data directory.",
    )
    callers = (
        ("websites, apps, indexes", "role `reader`"),
        ("partners", "role `reader`, with a filter"),
        ("CMS, imports", "role `publisher`"),
        ("monitoring, load balancers", "no credential"),
    )
    addresses = (
        ("server.listen", "127.0.0.1:7190", "gRPC, gRPC-Web and HTTP; TLS", "blue", 91),
        ("publish.listen", "off", "if set, the only address for writes; TLS", "own", 200),
        ("server.ops_listen", "127.0.0.1:7191", "metrics and health; no TLS", "note", 278),
    )
    left, width, height, node = 24, 220, 58, 332
    middles = (56, 128, 200, 278)
    picture.rect(node, 24, 444, 382, "box", radius=8)
    picture.frame(node, 24, 444, 382)
    for setting, default, purpose, colour, y in addresses:
        if f"### `{setting}`" not in SETTINGS:
            raise SystemExit(f"docs/reference/settings.md has no {setting}")
        picture.rect(node, y - 26, 444, 52, colour, "tint")
        picture.rect(node - 3, y - 26, 6, 52, colour, radius=3)
        picture.text(node + 20, y - 4, setting, more="mono strong")
        picture.text(760, y - 4, default, "note", "mono small end")
        picture.text(node + 20, y + 16, purpose, "note", "small")
    for (title, credential), y in zip(callers, middles):
        picture.rect(left, y - height / 2, width, height, "box", radius=6)
        picture.frame(left, y - height / 2, width, height)
        picture.text(left + 14, y - 5, title, more="strong")
        picture.text(left + 14, y + 15, credential, "note", "small")
    out = left + width
    picture.elbow(out, middles[0], 284, node - 4, 85, "blue")
    picture.elbow(out, middles[1], 284, node - 4, 97, "blue")
    picture.route([(out, middles[2]), (node - 4, middles[2])], "own")
    picture.route([(out, middles[3]), (node - 4, middles[3])], "note")
    picture.text(node + 20, 48, "node: cable serve", "note", "small")
    picture.text(node + 20, 342, "data directory", more="strong")
    picture.text(node + 20, 366, "cable.db", more="mono small")
    picture.text(node + 156, 366, "content and its log", "note", "small")
    picture.text(node + 20, 386, "credentials.toml", more="mono small")
    picture.text(node + 156, 386, "roles, filters, hashes of tokens", "note", "small")
    return picture


def draw():
    return [data_model(), feed_sequence(), access()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    arguments = parser.parse_args()
    failed = False
    for picture in draw():
        file = HERE / f"{picture.name}.svg"
        if not arguments.check:
            file.write_text(picture.svg(), encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != picture.svg():
            print(f"{file.relative_to(HERE.parents[1])} is not what docs/images/draw.py draws: run it", file=sys.stderr)
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
