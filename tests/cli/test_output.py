import io
import sys

import pytest

from muster.cli.output import duration, lines, print_facts, print_json, print_table, printable, when


@pytest.mark.parametrize(
    ("elapsed_ms", "text"),
    [
        (None, "-"),
        (0, "-"),
        (40, "0.0 s"),
        (1_240, "1.2 s"),
        (9_949, "9.9 s"),
        (9_950, "10 s"),
        (59_400, "59 s"),
        (59_600, "1 min 0 s"),
        (125_000, "2 min 5 s"),
        (3_600_000, "1 h 0 min"),
        (90_061_000, "1 d 1 h"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(elapsed_ms: int | None, text: str) -> None:
    assert duration(elapsed_ms) == text


def test_a_time_that_is_not_yet_is_a_dash() -> None:
    assert when(None) == when(0) == "-"
    assert when(1_795_206_600_000).startswith("2026-11-2")


def test_a_table_into_a_pipe_is_not_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "COUNT"), [("x" * 300, 7), (None, "")], right=("COUNT",))

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "COUNT"]
    assert lines[1].split() == ["x" * 300, "7"]
    assert lines[2].split() == ["-", "-"]


def test_what_others_wrote_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts([("description", "a\x1b[2Jb\x07 [red]c[/red]"), ("left out", None)])

    assert capsys.readouterr().out.split() == [
        "description",
        "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}",
        "[red]c[/red]",
    ]
    assert printable("ü 名") == "ü 名"


def test_the_lines_of_a_log_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts([("reason", lines("it ended:\n  at line 3\x1b[2J\nKeyError")), ("no", lines(""))])

    assert capsys.readouterr().out.splitlines() == [
        "reason  it ended:",
        "          at line 3\N{REPLACEMENT CHARACTER}[2J",
        "        KeyError",
    ]


def test_colours_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream, is_coloured in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stdout", stream)

        print_table(("NAME",), [("x",)])

        assert ("\x1b[" in stream.getvalue()) is is_coloured


def test_json_is_laid_out_for_reading(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [1, "ü"], "b": None})

    assert capsys.readouterr().out == '{\n  "a": [\n    1,\n    "ü"\n  ],\n  "b": null\n}\n'
