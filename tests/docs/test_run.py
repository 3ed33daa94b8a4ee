"""Tests of run.py: parsing of documents, and comparison of transcripts."""

import unittest

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
