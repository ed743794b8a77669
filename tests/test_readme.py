"""What README promises is run word for word."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pixit.cli import cli

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the README's examples read."""
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_examples_run(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = blocks("python")
    assert examples
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})
    assert "SPEAKER_00" in capsys.readouterr().out
    assert (clone / "separated" / "meeting" / "meeting.rttm").is_file()


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


def test_options_that_readme_names_exist() -> None:
    recipes = "".join(path.read_text(encoding="utf-8") for path in REPOSITORY.glob("recipes/*/*.py"))
    known = options_of(cli) | set(re.findall(r"--[a-z][a-z-]+", recipes))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= known


def options_of(command: click.Command) -> set[str]:
    """Return the options of a command and of all commands below it."""
    context = click.Context(command)
    found = {option for parameter in command.get_params(context) for option in parameter.opts}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found |= options_of(command.get_command(context, name))
    return found


def test_files_that_readme_names_exist() -> None:
    for target in re.findall(r"\]\(((?!https?:)[^)#]+)\)", README):
        assert (REPOSITORY / target).exists(), target
    for name in re.findall(r"`((?:configs|scripts|tests|recipes|pixit)/[\w./-]+)`", README):
        assert (REPOSITORY / name).exists(), name
