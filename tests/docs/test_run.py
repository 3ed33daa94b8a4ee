"""Tests of run.py: parsing of documents, and comparison of transcripts."""

import pathlib
import subprocess
import unittest

import checks
import run


def document(*lines):
    return "\n".join(lines)


class Blocks(unittest.TestCase):
    def test_a_block_has_its_section_and_the_reason_above_it(self):
        text = document("# One", "```sh", "a", "```", "## Two", "*Not run in CI: no network.*", "", "```rust", "b", "```")
        found = run.blocks(text)
        self.assertEqual([(b.language, b.section, b.not_run) for b in found], [("sh", "One", None), ("rust", "Two", "no network")])

    def test_a_reason_applies_to_one_block(self):
        text = document("*Not run in CI: no network.*", "```sh", "a", "```", "```sh", "b", "```")
        self.assertEqual([b.not_run for b in run.blocks(text)], ["no network", None])

    def test_commands_have_prompts_and_their_output(self):
        block = run.Block("console", 1, ["$ a 'x", "  y' \\", "  -b  # it's c", "one", "", "$ d  # (exit code 4)"], "", None)
        first, second = run.commands(block)
        self.assertEqual(first.text, "a 'x\n  y' \\\n  -b  # it's c")
        self.assertEqual((first.shown, first.exit_code, first.line), (["one", ""], 0, 2))
        self.assertEqual((second.exit_code, second.shown), (4, []))

    def test_output_without_a_command_is_an_error(self):
        for lines in (["one"], []):
            with self.assertRaises(run.Failure):
                run.commands(run.Block("console", 1, lines, "", None))

    def test_servers_and_watchers_are_recognised(self):
        self.assertTrue(run.Command("cargo run --release -- serve --demo", 1).serves)
        for text in ("cable feed watch --any-tag a", "cable mirror a.jsonl", "grpcurl -d x 127.0.0.1:7190 cable.v1.FeedService/Watch"):
            self.assertTrue(run.Command(text, 1).watches, text)
        self.assertFalse(run.Command("cable mirror --once a.jsonl", 1).watches)


    def test_a_here_document_and_a_pipe_continue(self):
        block = run.Block("sh", 1, ["cat <<'END'", "a", "END", "a |", "  b", "c <<< 'd'"], "", None)
        self.assertEqual([c.text for c in run.commands(block)], ["cat <<'END'\na\nEND", "a |\n  b", "c <<< 'd'"])

    def test_the_paragraph_above_a_block_directs_the_reader(self):
        text = document("In a second terminal, save this as", "`a.py`:", "", "*Not run in CI: no network.*", "", "```python", "b", "```")
        [block] = run.blocks(text)
        self.assertEqual((run.TERMINAL.findall(block.intro), run.SAVE.search(block.intro)[1]), (["second"], "a.py"))
        self.assertEqual(block.not_run, "no network")
        self.assertEqual(run.INTERRUPT.search("Interrupt the follower, and start it.")[1], "follower")

    def test_a_block_without_an_end_is_an_error(self):
        with self.assertRaises(run.Failure):
            run.blocks(document("```sh", "a"))


class Documents(unittest.TestCase):
    def test_every_document_is_run_or_has_nothing_to_run(self):
        listed = subprocess.run(["git", "ls-files", "*.md"], cwd=run.ROOT, capture_output=True, text=True, check=True)
        tracked = {name for name in listed.stdout.split() if not checks.NO_DOCUMENTS.match(name)}
        self.assertEqual(tracked, set(checks.DOCUMENTS) | set(checks.WITHOUT_COMMANDS))

    def test_a_document_that_is_not_run_has_no_commands(self):
        for name in checks.WITHOUT_COMMANDS:
            for block in run.blocks((run.ROOT / name).read_text(encoding="utf-8")):
                self.assertIn(block.language, ("", "text"), name)
                checks.check_text(block.text, run.ROOT)

    def test_invalid_blocks_are_refused(self):
        for language, text in {
            "json": '{"a": 1}\n{"b": }',
            "toml": "a = = 1",
            "yaml": "a\tb",
            "python": "for a in b print(a)",
            "go": "for a := range b {",
            "": "cable article ls",
            "cobol": "STOP RUN.",
        }.items():
            with self.subTest(language), self.assertRaises(checks.Invalid):
                checks.check(run.Block(language, 1, text.splitlines(), "", None), "a.md", pathlib.Path("."))

    def test_valid_blocks_are_accepted(self):
        for language, text in {
            "json": '{"a": 1}\n{"b":\n 2}',
            "toml": "a = 1",
            "yaml": "a:\n  - b: c\n    d: e",
            "python": "async for a in b:\n    await c",
            "go": "for a := range b {\n\tc(a)\n}",
            "text": "a ──▶ cable",
        }.items():
            checks.check(run.Block(language, 1, text.splitlines(), "", None), "a.md", pathlib.Path("."))


class Transcripts(unittest.TestCase):
    def test_numbers_times_and_ids_vary(self):
        shown = ['"etag": "fe49a3a5-84",', '"time": "2026-11-24T20:56:29.162157Z"', "86  that is all", "quay-2cc4c8e6-ee23-467d-b042-955b3e86ce2b"]
        printed = ['"etag": "00aa11bb-9-7f",', '"time": "2027-01-02T03:04:05Z"', "  7    that is all", "quay-0cc4c8e6-0e23-467d-b042-955b3e86ce20"]
        self.assertIsNone(run.mismatch(shown, "\n".join(printed)))

    def test_units_of_time_vary(self):
        self.assertIsNone(run.mismatch(["  Total:\t6.73 s", "10 % in 4.5 ms"], "  Total:\t450.31 ms\n10 % in 900 µs"))
        self.assertIsNotNone(run.mismatch(["6.73 s"], "6.73 KB"))

    def test_a_line_that_is_missing_on_either_side_is_found(self):
        self.assertEqual(run.mismatch(["a", "b"], "a"), "b")
        self.assertIn("b", run.mismatch(["a"], "a\nb"))
        self.assertEqual("c", run.mismatch(["a", "c"], "a\nb\nc"))
        self.assertEqual(run.mismatch(["a b"], "a c"), "a b")

    def test_dots_match_omitted_output(self):
        self.assertIsNone(run.mismatch(["a", "...", "d"], "a\nb\nc\nd"))
        self.assertIsNone(run.mismatch(["a", "..."], "a\nb"))
        self.assertIsNone(run.mismatch(['{"a": {...}, "b": 1}'], '{"a": {"x": {}}, "b": 22}'))
        self.assertEqual(run.mismatch(["...", "d"], "a\nb"), "d")
        self.assertIsNone(run.mismatch(["...", "}", "{"], "a\n}\n]\n}\n{"))

    def test_a_command_that_watches_may_continue(self):
        self.assertIsNone(run.mismatch(["a"], "a\nb", may_continue=True))

    def test_a_command_without_a_transcript_may_print(self):
        self.assertIsNone(run.mismatch([], "a"))


if __name__ == "__main__":
    unittest.main()
