"""Tests of links.py: a small tree of documents is sound, and each way to break it is found."""

import pathlib
import tempfile
import unittest

import links

SOUND = {
    "README.md": "# Cable\n\n[Documents](docs/README.md), <https://example.org/a>\n",
    "docs/README.md": "# Documents\n\n- [feeds](feeds.md)\n- [reference](reference/cli.md)\n"
    "- [settings](reference/settings.md), [metrics](reference/metrics.md)\n",
    "docs/feeds.md": "# Feeds\n\n![A feed](images/feed.png)\n\nSee [the `end`](#the-end) and\n[a\nsource](../src/feed.rs).\n\n"
    "## The `end`\n\n`cable feed watch --any-tag x`, `server.listen`, `cable_rpc_seconds`, `feed.rs`.\n\n"
    "```sh\n[none](none.md)\n```\n\n## The end\n\n[Second](#the-end-1), [site](https://example.org:8080/x)\n",
    "docs/reference/cli.md": "# Command line\n\n## cable\n\n## cable feed\n\n## cable feed watch\n\n```text\n  --any-tag <TAG>\n```\n",
    "docs/reference/settings.md": "# Settings\n\n### `server.listen`\n",
    "docs/reference/metrics.md": "# Metrics\n\n## `cable_rpc_seconds`\n",
    "docs/images/feed.png": "",
    "src/feed.rs": "",
}


def errors(changes):
    """The errors of the sound tree after some files got other content, or None to remove them."""
    files = {name: text for name, text in (SOUND | changes).items() if text is not None}
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        return links.Checker(root, list(files)).check()


def feeds(old, new):
    assert old in SOUND["docs/feeds.md"], old
    return {"docs/feeds.md": SOUND["docs/feeds.md"].replace(old, new)}


BROKEN = {
    "no such file": ({"src/feed.rs": None}, "docs/feeds.md:6: ../src/feed.rs: no such file"),
    "no such anchor": (feeds("(#the-end)", "(#the-ends)"), "docs/feeds.md:5: #the-ends: no heading"),
    "a heading that comes once only": (feeds("\n## The end\n", "\n"), "docs/feeds.md:18: #the-end-1: no heading"),
    "an anchor of another page": (feeds("(#the-end)", "(README.md#feeds)"), "README.md#feeds: no heading"),
    "a page that the index does not list": ({"docs/new.md": "# New\n"}, "docs/README.md:1: does not list docs/new.md"),
    "an index entry without a page": ({"docs/feeds.md": None}, "docs/README.md:3: feeds.md: no such file"),
    "no index": ({"docs/README.md": None}, "docs/README.md:1: the index is missing"),
    "a picture that is missing": ({"docs/images/feed.png": None}, "docs/feeds.md:3: images/feed.png: no such file"),
    "a picture that is not shown": ({"docs/images/old.svg": ""}, "docs/images/old.svg:1: no document shows"),
    "an unknown scheme": (feeds("https://example.org:8080/x", "htp://example.org"), "the scheme must be one of"),
    "no host": (feeds("https://example.org:8080/x", "https:///x"), "docs/feeds.md:19: https:///x: no host"),
    "an absolute path": (feeds("../src/feed.rs", "/src/feed.rs"), "an absolute path"),
    "a path above the repository": (feeds("../src/feed.rs", "../../../feed.rs"), "no such file"),
    "no target": (feeds("(../src/feed.rs)", "()"), "docs/feeds.md:6: the link has no target"),
    "an unknown command": (feeds("feed watch", "feed follow"), "`cable feed` has no command `follow`"),
    "an unknown option": (feeds("--any-tag", "--tags"), "`cable feed watch` has no option `--tags`"),
    "an unknown setting": (feeds("server.listen", "server.listens"), "`server.listens`: no such setting"),
    "an unknown metric": (feeds("cable_rpc_seconds", "cable_call_seconds"), "`cable_call_seconds`: no such metric"),
}


class Links(unittest.TestCase):
    def test_a_sound_tree_has_no_errors(self):
        self.assertEqual(errors({}), [])

    def test_each_way_to_break_it_is_found(self):
        for name, (changes, expected) in BROKEN.items():
            with self.subTest(name):
                found = errors(changes)
                self.assertTrue(any(expected in error for error in found), f"{expected} is not in {found}")

    def test_anchors_are_those_of_github(self):
        for heading, anchor in [
            ("Host and origin", "host-and-origin"),
            ("Status page and `cable top`", "status-page-and-cable-top"),
            ("What's *new*, in 2.0?", "whats-new-in-20"),
            ("A [link](x.md) / B_c", "a-link--b_c"),
        ]:
            self.assertEqual(links.slug(heading), anchor)


if __name__ == "__main__":
    unittest.main()
