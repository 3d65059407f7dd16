"""What the README tells a newcomer to type exists."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from silo.cli import build_app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TYPED = {"sh", "bash", "console"}


def commands(markdown: str) -> list[list[str]]:
    """The lines of the code blocks that are to be typed, as words."""
    found = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL):
        if language in TYPED:
            for line in block.replace("\\\n", " ").splitlines():
                if (language != "console" or line.startswith("$ ")) and (words := shlex.split(line, comments=True)):
                    found.append(words[1:] if words[0] == "$" else words)
    return found


def complaint(words: list[str], command: Any) -> str:
    """What is wrong with the words after ``silo``; empty when each is a subcommand, an option or an argument."""
    rest = list(words)
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            return f"no such subcommand: {' '.join(words)}"
        command = command.commands[rest.pop(0)]
    known = {"--help"}.union(*([*p.opts, *p.secondary_opts] for p in command.params if p.param_type_name == "option"))
    unknown = [word for word in rest if word.startswith("-") and word.split("=")[0] not in known]
    return f"no such option of {words[0]}: {', '.join(unknown)}" if unknown else ""


@pytest.mark.parametrize("words", [w for w in commands(README) if w[0] == "silo"], ids=" ".join)
def test_a_silo_command_in_the_readme_has_an_existing_subcommand_and_existing_options(words: list[str]) -> None:
    assert complaint(words[1:], get_command(build_app())) == ""


def test_a_make_target_in_the_readme_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {word for words in commands(README) if words[0] == "make" for word in words[1:]}
    targets |= set(re.findall(r"`make (\w+)`", README))
    assert {"demo", "test"} <= targets
    assert targets <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))


def test_a_file_linked_from_the_readme_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("store build x --model m", ""),
        ("store build x --model=m --help", ""),
        ("store burn x", "no such subcommand: store burn x"),
        ("store", "no such subcommand: store"),
        ("store build x --modle m", "no such option of store: --modle"),
    ],
)
def test_a_wrong_command_would_be_found(words: str, expected: str) -> None:
    app, group = typer.Typer(), typer.Typer()

    def build(name: str, model: str = typer.Option("")) -> None: ...

    group.command("build")(build)
    group.command("other")(build)
    app.add_typer(group, name="store")
    assert complaint(words.split(), get_command(app)) == expected


def test_only_what_is_to_be_typed_is_taken_for_a_command() -> None:
    markdown = "```sh\nsilo a \\\n  --b c # why\n```\n```console\n$ silo d\noutput\n```\n```text\nsilo e\n```\n"
    assert commands(markdown) == [["silo", "a", "--b", "c"], ["silo", "d"]]
