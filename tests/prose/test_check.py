"""Tests of the prose check: its findings and its exceptions. `vale` and `typos` must be on the PATH."""

import json
import pathlib
import subprocess
import tempfile
import unittest

import width

HERE = pathlib.Path(__file__).parent

# Sentences that were once in README.md, in comments of the schema and in help texts, with a rule that each breaks.
BAD = [
    ("md", "Tell", "Put it again without the tag, and the follower is told that it `left`."),
    ("md", "Say", "[docs/feeds.md](docs/feeds.md) says what feeds promise, and how to feed a search index or a CDN."),
    ("md", "Nobody", "Whoever was away for too long (`feed.history`: 90 days) is sent a snapshot."),
    ("md", "What", "A test compares both with those of a store in which what waits has been removed."),
    ("md", "Terms", "**What is stored proves itself**: every record has a checksum."),
    ("md", "Terms", "A feed goes on by itself when connections, nodes and its own process end."),
    ("md", "Answer", "Status and content of each answer are checked."),
    ("proto", "Subject", "What happened since the position is no longer known."),
    ("proto", "Terms", "Where `after` cannot be gone on from, start with a snapshot."),
    ("proto", "Answer", "UNAVAILABLE. The node is shutting down; another may answer."),
    ("proto", "Fragment", "What was done."),
    ("proto", "Fragment", "What happened. If unset, nothing."),
    ("proto", "Fragment", "In what way: `background`, `previous`; at most 128 bytes."),
    ("proto", "Unset", "At most 4 KiB. Unset: none."),
    ("proto", "Nobody", "Convergence: whoever applies all changes holds all articles that match."),
    ("rs", "Terms", "Make a store anew from the entries of another, which shows that they are whole."),
    ("rs", "Terms", "Prove the store of a server on this machine."),
    ("rs", "Terms", "Versions whose time has not come."),
    ("rs", "Tell", "Remove an article; a tombstone tells why."),
    ("rs", "Kept", "Records as `cable export --format binary` writes them; fields that this release does not know are kept."),
    ("rs", "Terms", "Keep a file equal to whatever matches, until interrupted."),
    ("rs", "Fragment", "Of the service, with changes."),
]

GOOD = [
    ("md", "A follower that resumes before the history floor receives REVISION_COMPACTED and restarts from a snapshot."),
    ("md", "Stored data is verified: every record has a checksum."),
    ("md", "What happens when a node stops? It drains."),
    ("md", "# What it replaces"),
    ("md", "**What it replaces.** The cache in front of a CMS."),
    ("md", "An article is returned exactly once, whatever is published in the meantime."),
    ("md", "The server may keep running during a backup; connections are kept alive by pings."),
    ("proto", "If the server cannot resume after `after`, it sends `reset` and then a snapshot. If unset, the call fails."),
    ("proto", "Response of PutArticle."),
    ("proto", "The article does not exist or is not visible."),
    ("proto", "For each article, at most 256 former paths. Of these, the newest comes first."),
    ("rs", "Rebuild a store from another store's entries, verifying each one."),
    ("rs", "Reads new commits and delivers them to the groups. Returns when the store closes."),
    ("rs", "A counter on standby stands for the limit: the node feed limit is reached (20000)."),
]


def as_file(kind, text):
    """A file of the kind in which the text is prose."""
    if kind == "md":
        return text + "\n"
    comment = "\n".join(f"{'///' if kind == 'rs' else '//'} {line}".rstrip() for line in text.split("\n"))
    return comment + ("\nstruct Told;\n" if kind == "rs" else "\nmessage Told {}\n")


def findings(*files):
    """The rules that each of the files breaks: pairs of kind and content."""
    with tempfile.TemporaryDirectory() as directory:
        paths = [pathlib.Path(directory, f"{i}.{kind}") for i, (kind, _) in enumerate(files)]
        for path, (_, content) in zip(paths, files):
            path.write_text(content)
        command = ["vale", "--no-global", "--no-exit", "--config", HERE / "vale.ini", "--output", "JSON", *paths]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return [{alert["Check"].removeprefix("Cable.") for alert in found.get(str(path), [])} for path in paths]


def misspelt(text):
    """The words of the text that are misspelt."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "a.md")
        path.write_text(text)
        command = ["typos", "--config", HERE / "typos.toml", "--format", "json", path]
        lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
        return [found["typo"] for found in map(json.loads, lines) if found["type"] == "typo"]


class Words(unittest.TestCase):
    def test_each_bad_sentence_is_found(self):
        found = findings(*((kind, as_file(kind, text)) for kind, _, text in BAD))
        for (kind, rule, text), rules in zip(BAD, found):
            with self.subTest(kind=kind, text=text):
                self.assertIn(rule, rules)

    def test_each_good_sentence_passes(self):
        found = findings(*((kind, as_file(kind, text)) for kind, text in GOOD))
        for (kind, text), rules in zip(GOOD, found):
            with self.subTest(kind=kind, text=text):
                self.assertEqual(rules, set())

    def test_each_rule_has_a_bad_sentence(self):
        rules = {path.stem for path in (HERE / "styles" / "Cable").glob("*.yml")}
        self.assertEqual(rules, {rule for _, rule, _ in BAD})

    def test_a_phrase_may_be_broken_over_two_lines(self):
        for kind in ("md", "proto", "rs"):
            with self.subTest(kind=kind):
                self.assertEqual(findings((kind, as_file(kind, "The feed goes\non after it.")))[0], {"Terms"})

    def test_code_is_not_prose(self):
        code = "The field `told` is set.\n\n```text\nnobody answers\n```"
        files = [(kind, as_file(kind, code)) for kind in ("md", "proto", "rs")]
        files.append(("rs", 'fn told() -> &\'static str {\n    "nobody answers"\n}\n'))
        self.assertEqual(findings(*files), [set()] * 4)

    def test_comments_within_code_are_prose(self):
        for kind in ("//", "///", "//!"):
            with self.subTest(kind=kind):
                inside = f"mod a {{\n    {kind} Nobody reads it.\n    struct A;\n}}\n"
                self.assertEqual(findings(("rs", inside))[0], {"Nobody"})


class Spelling(unittest.TestCase):
    def test_a_misspelt_word_is_found(self):
        self.assertEqual(misspelt("A client that recieves an article."), ["recieves"])

    def test_words_of_the_project_pass(self):
        self.assertEqual(misspelt("A licence and an id as ninjs has them."), [])


class Width(unittest.TestCase):
    def test_text_that_could_be_wrapped_is_found(self):
        long = "word " * 25
        self.assertEqual(list(width.long_lines(f"short\n{long}\n- {long}\n\n```\n{long}\n```\n{long}\n")), [2, 3, 8])

    def test_tables_and_long_words_pass(self):
        word = "x" * 120
        self.assertEqual(list(width.long_lines(f"| {'word ' * 25} |\n{word}\n- {word}\n> {word} and more\n")), [])


if __name__ == "__main__":
    unittest.main()
