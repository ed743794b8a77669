"""What README and the pages of docs/ promise is run word for word."""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import pixit
from pixit.audio.blocks import FileSource
from pixit.cli import cli

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
}
README = PAGES["README.md"]
RECIPES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(REPOSITORY.glob("recipes/*/README.md"))
}
SETTINGS = cli.context_settings  # a command remembers the help option of the first context that it meets


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """Return the command lines of a page's shell blocks."""
    lines = "".join(blocks("bash", page)).splitlines()
    return [command for line in lines for command in line.split(" && ")]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the README's examples read."""
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    file = FileSource("examples/meeting.flac")  # in the microphone's place
    monkeypatch.setattr("pixit.audio.sources.MicrophoneSource", lambda *_: file)
    return tmp_path


def test_python_examples_run(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of README; those of a page of docs/ run below."""
    for example in blocks("python"):
        exec(compile(example, "README.md", "exec"), {})
        assert capsys.readouterr().out
    assert (clone / "separated" / "meeting" / "meeting.rttm").is_file()


OTHERS = ("README.md", "docs/protocol.md")
"""Pages whose examples are run elsewhere: above, and in ``tests/serve``, which has a server."""


@pytest.mark.usefixtures("clone")
@pytest.mark.parametrize(
    "name", [name for name in PAGES if name not in OTHERS and blocks("python", PAGES[name])]
)
def test_python_examples_of_the_docs_run(name: str) -> None:
    for example in blocks("python", PAGES[name]):
        exec(compile(example, name, "exec"), {})


WITH_EXAMPLES = [
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for path in sorted((REPOSITORY / "pixit").rglob("*.py"))
    if re.search(r"^ *>>> (?!.*doctest: \+SKIP)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
]


@pytest.mark.usefixtures("clone")
@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_of_the_docstrings_run(name: str) -> None:
    found = doctest.testmod(import_module(name), extraglobs={"pixit": pixit})
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.usefixtures("clone")
def test_the_settings_of_the_docs_can_be_read() -> None:
    from pixit.config import load_settings
    from pixit.training.train import TrainSettings

    examples = blocks("yaml", PAGES["docs/train.md"])
    assert examples
    for number, example in enumerate(examples):
        path = Path(f"{number}.yaml")
        path.write_text(example, encoding="utf-8")
        load_settings(TrainSettings, path)


def test_the_main_command_runs(clone: Path) -> None:
    (command,) = [
        line for block in blocks("bash") for line in block.splitlines() if "separate examples" in line
    ]
    arguments = command.split(" && ")[-1].split()
    assert arguments[0] == "pixit"
    result = CliRunner().invoke(cli, arguments[1:])
    assert result.exit_code == 0, result.output
    names = {path.name for path in (clone / "separated" / "meeting").iterdir()}
    assert {"meeting.rttm", "meeting.json", "timeline.png", "SPEAKER_00.wav"} <= names


def test_ci_runs_the_test_command() -> None:
    (command,) = [
        line for block in blocks("bash") for line in block.splitlines() if line.endswith("&& pytest")
    ]
    install = command.split(" && ")[-2]
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert install.replace("pip install", "pip install --quiet") in script
    assert "\npytest" in script


@pytest.mark.parametrize("name", [*PAGES, *RECIPES])
def test_the_commands_of_a_page_can_be_parsed(name: str) -> None:
    """Every `pixit …` names a command that is there, with options that it has."""
    for line in commands({**PAGES, **RECIPES}[name]):
        words = shlex.split(line, comments=True)
        if words[:1] == ["pixit"]:
            command, arguments = find_command(words[1:])
            context = click.Context(command, resilient_parsing=True, **SETTINGS)
            command.make_parser(context).parse_args(arguments)  # raises on an unknown option


def find_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that a command line asks for, and its arguments."""
    command: click.Command | None = cli
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command, **SETTINGS), words[0])
        assert command is not None, words
        words = words[1:]
    assert command is not None
    return command, words


def test_a_wrong_option_is_found() -> None:
    command, arguments = find_command(["separate", "meeting.wav", "--speakers", "2"])
    with pytest.raises(click.NoSuchOption):
        command.make_parser(click.Context(command, **SETTINGS)).parse_args(arguments)


@pytest.mark.parametrize("name", PAGES)
def test_options_that_a_page_names_exist(name: str) -> None:
    programs = [*REPOSITORY.glob("recipes/*/*.py"), *REPOSITORY.glob("scripts/*.py")]
    theirs = "".join(path.read_text(encoding="utf-8") for path in programs)
    known = options_of(cli) | set(re.findall(r"--[a-z][a-z-]+", theirs))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGES[name])) <= known


def options_of(command: click.Command) -> set[str]:
    """Return the options of a command and of all commands below it."""
    context = click.Context(command, **SETTINGS)
    found = {
        o for parameter in command.get_params(context) for o in parameter.opts + parameter.secondary_opts
    }
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found |= options_of(command.get_command(context, name))
    return found


@pytest.mark.parametrize("name", PAGES)
def test_files_that_a_page_names_exist(name: str) -> None:
    folder = (REPOSITORY / name).parent
    for target in re.findall(r"\]\(((?!https?:)[^)#]+)", PAGES[name]):
        assert (folder / target).exists(), target
    for path in re.findall(r"`((?:configs|scripts|tests|recipes|pixit)/[\w./-]+)`", PAGES[name]):
        assert (REPOSITORY / path).exists(), path


def test_the_picture_shows_what_is_in_the_package() -> None:
    """Each file and folder of pixit/ has its line, and the files named there exist."""
    (picture,) = re.findall(
        r"^pixit/\n(.*?)^```", PAGES["docs/architecture.md"], flags=re.MULTILINE | re.DOTALL
    )
    package = REPOSITORY / "pixit"
    lines = dict(re.findall(r"^[├└]── (\S+) +(.*)$", picture, flags=re.MULTILINE))
    there = {path.name + "/" * path.is_dir() for path in package.iterdir() if not path.name.startswith("_")}
    assert set(lines) == there
    for entry, words in lines.items():
        for path in re.findall(r"\w+(?:/|\.py)", words):
            assert (package / entry / path).exists(), f"{entry}: {path}"
