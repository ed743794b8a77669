"""The rules of the house, read from the code itself: who may import whom, and what an import may do."""

from __future__ import annotations

import ast
import builtins
import fnmatch
import importlib.util
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "pixit"
MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
LIGHTNING = ["pytorch_lightning", "lightning", "lightning_fabric"]

MEETINGS = ["pixit.data", "pixit.simulation"]
VOCABULARY = [f"!pixit.{name}" for name in ("types", "config", "files", "windows")]

FORBIDDEN = {
    # who: what it never imports (a name stands for all that is in it)
    "pixit.types": ["pixit"],
    "pixit.config": ["pixit", "!pixit.types", "!pixit.files"],
    "pixit.memory": ["pixit"],
    "pixit.ownership": ["pixit", "!pixit.types"],
    "pixit.files": ["pixit", "!pixit.types", "!pixit.ownership"],
    "pixit.windows": ["pixit", *VOCABULARY],
    "pixit.audio*": ["pixit", *VOCABULARY, "!pixit.audio"],
    "pixit.formats*": ["pixit.models", "pixit.pipeline", "pixit.training", *MEETINGS, "pixit.evaluation"],
    "pixit.diarized": ["pixit.models", "pixit.pipeline", "pixit.training", *MEETINGS, "pixit.evaluation"],
    "pixit.results": ["pixit.models", "pixit.pipeline", "pixit.training", *MEETINGS, "pixit.evaluation"],
    "pixit.models*": [
        *("pixit.pipeline", "pixit.training", *MEETINGS, "pixit.evaluation", "pixit.checkpoints"),
        *LIGHTNING,
    ],
    "pixit.pipeline*": ["pixit.models", "pixit.training", *MEETINGS, "pixit.evaluation", *LIGHTNING],
    "pixit.data*": ["pixit.models", "pixit.pipeline", "pixit.training", "pixit.evaluation"],
    "pixit.simulation*": ["pixit.models", "pixit.pipeline", "pixit.training", "pixit.evaluation"],
    "pixit.training*": ["pixit.pipeline"],
    "pixit.evaluation*": ["pixit.models", "pixit.pipeline", "pixit.training"],
    "pixit.report*": ["pixit.models", "pixit.pipeline", "pixit.training"],
    "pixit.transcription*": [
        *("pixit.models", "pixit.pipeline", "pixit.training", *MEETINGS, "pixit.evaluation"),
    ],
    "pixit.serve*": ["pixit.models", "pixit.training", *MEETINGS, "pixit.evaluation", *LIGHTNING],
    "pixit*": ["pixit.cli", "torchaudio"],
}


def imports_of(source: str, module: str, is_package: bool = False) -> set[str]:
    """Return all that a module imports, inside functions too, relative imports and import_module included."""
    found: set[str] = set()
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module) if part)
            found |= {name, *(f"{name}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and _name_of(node.func) in ("import_module", "__import__"):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


def _name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def within(name: str, of: str) -> bool:
    return name == of or name.startswith(f"{of}.")


def offences(module: str, imported: set[str]) -> list[str]:
    """Return the imports of a module that the table forbids."""
    found = []
    for pattern, rules in FORBIDDEN.items():
        if not fnmatch.fnmatch(module, pattern):
            continue
        allowed = [rule[1:] for rule in rules if rule.startswith("!")]
        for name in sorted(imported):
            forbidden = any(within(name, rule) for rule in rules if not rule.startswith("!"))
            # "from pixit.types import X" is recorded as pixit.types too, "from pixit import types" as pixit too
            excepted = any(within(name, rule) for rule in allowed) or (name == "pixit" and allowed)
            if forbidden and not excepted and not within(name, module):
                found.append(f"{module} imports {name}")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_what_it_must_not(module: str) -> None:
    path = MODULES[module]
    imported = imports_of(path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py")
    if module == "pixit.__main__" or within(module, "pixit.cli"):  # python -m pixit is the command line
        imported = {name for name in imported if not within(name, "pixit.cli")}
    assert offences(module, imported) == []


@pytest.mark.parametrize("module", MODULES)
def test_serve_stands_just_below_the_command_line(module: str) -> None:
    if not any(within(module, above) for above in ("pixit.cli", "pixit.serve")):
        imported = imports_of(MODULES[module].read_text(encoding="utf-8"), module)
        assert [name for name in imported if within(name, "pixit.serve")] == []


@pytest.mark.parametrize("module", MODULES)
def test_only_audio_touches_the_libraries_of_sound_files(module: str) -> None:
    imported = imports_of(MODULES[module].read_text(encoding="utf-8"), module)
    libraries = [name for name in imported if within(name, "soundfile") or within(name, "av")]
    assert not libraries or within(module, "pixit.audio")


def test_the_rules_speak_of_what_is_there() -> None:
    """A rule for a module that was moved would hold for nothing."""
    for pattern, rules in FORBIDDEN.items():
        assert fnmatch.filter(MODULES, pattern), pattern
        ours = {rule.lstrip("!") for rule in rules if within(rule.lstrip("!"), "pixit")}
        assert ours <= set(MODULES), pattern


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pixit.types", "import pixit.config"),
        ("pixit.config", "from pixit import audio"),
        ("pixit.files", "from .config import Settings"),
        ("pixit.windows", "def f():\n    from .audio import open_audio"),
        ("pixit.audio.decode", "from pixit.formats.rttm import read_rttm"),
        ("pixit.formats.rttm", "from pixit.data.database import load_recordings"),
        ("pixit.results", "from pixit.pipeline.separate import x"),
        ("pixit.models.totatonet", "from ..data import pairs"),
        ("pixit.models.totatonet", "import pytorch_lightning as pl"),
        ("pixit.models.embedders.resnet", "from ...checkpoints import load_model"),
        ("pixit.pipeline.separate", "import importlib\nimportlib.import_module('pixit.models.totatonet')"),
        ("pixit.data.pairs", "if True:\n    import pixit.models"),
        ("pixit.simulation.corpus", "from ..pipeline.separate import Separator"),
        ("pixit.training.train", "from pixit.pipeline import separate"),
        ("pixit.evaluation.metrics", "from pixit.training.objective import si_sdr"),
        ("pixit.evaluation.verification", "from pixit.models import embedders"),
        ("pixit.audio.recording", "import torchaudio.functional"),
        ("pixit.checkpoints.native", "from pixit.cli import main"),
        ("pixit.experiments.cpwer", "import pixit.cli.console"),
        ("pixit.serve.jobs", "from pixit.models.totatonet import ToTaToNet"),
    ],
)
def test_the_rules_catch_what_they_should(module: str, source: str) -> None:
    assert offences(module, imports_of(source, module))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pixit.config", "from pixit.types import PixitError"),
        ("pixit.windows", "from pixit.config import Settings"),
        ("pixit.audio.tracks", "from pixit import types\nfrom pixit.audio.recording import AudioFile"),
        ("pixit.results", "from pixit.report.timeline import Lane\nfrom pixit.audio import Track"),
        ("pixit.data.pairs", "from pixit.data.database import SUBSETS\nfrom pixit.audio import open_audio"),
        ("pixit.models.totatonet", "from .maskers import build_masker"),
        ("pixit.pipeline.separate", "def f():\n    from pixit.checkpoints import load_model"),
        ("pixit.training.train", "from pixit.checkpoints import save_model\nimport pytorch_lightning"),
    ],
)
def test_the_rules_allow_what_they_should(module: str, source: str) -> None:
    assert not offences(module, imports_of(source, module))


# --- the command line parses, calls, prints -------------------------------------------------------------

CLI = [name for name in MODULES if within(name, "pixit.cli")]
PRINTING = ("click", "rich", "pixit.cli.console", "pixit.evaluation.tables", "pixit.types")
"""What of pixit and beyond the standard library a loop of the command line may call."""
PRINTS_TOO = {"pixit.report.timeline.clock"}
OF_PYTHON = (
    *("append", "clear", "complain", "count", "endswith", "extend", "format", "get", "items", "join", "keys"),
    *("ljust", "lower", "partition", "removesuffix", "replace", "rjust", "rpartition", "say", "split"),
    *("startswith", "stat", "strip", "update", "upper", "values"),
)
OUTPUTS = {("pixit.cli.console", "table.save")}
"""Loops over what is written, not over what is read: one table into each file that was asked for."""


def work_in_loops(source: str, module: str) -> list[str]:
    """Return what a module calls again and again that is neither printing nor Python's own.

    A loop is a ``for``, a ``while`` or a comprehension, without the iterable that it begins with: so a command may
    print what a generator of the library yields, but not call the library for each recording. Functions of the
    module that are called in a loop are part of it.
    """
    tree = ast.parse(source)
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    origin: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            origin |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            origin |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names}

    def is_harmless(name: str) -> bool:
        source = origin.get(name)
        if source is None:
            return name in dir(builtins)
        is_python = source.split(".")[0] in sys.stdlib_module_names
        return is_python or source in PRINTS_TOO or any(within(source, place) for place in PRINTING)

    def judge(part: ast.AST, seen: frozenset[str] = frozenset()) -> Iterator[str]:
        for call in (node for node in ast.walk(part) if isinstance(node, ast.Call)):
            called, name = call.func, ast.unparse(call.func)
            if isinstance(called, ast.Name) and called.id in functions:
                if called.id not in seen:
                    yield from judge(functions[called.id], seen | {called.id})
            elif isinstance(called, ast.Name):
                yield from [] if is_harmless(called.id) else [name]
            elif isinstance(called, ast.Attribute) and called.attr not in OF_PYTHON:
                root = name.split(".")[0]
                yield from [] if root in origin and is_harmless(root) else [name]
            elif not isinstance(called, ast.Attribute):
                yield name

    repeated: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.For):
            repeated += node.body
        elif isinstance(node, ast.While):
            repeated += [node.test, *node.body]
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            repeated += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            repeated += [part for each in node.generators for part in each.ifs]
            repeated += [each.iter for each in node.generators[1:]]
    found = {name for part in repeated for name in judge(part)}
    return sorted(name for name in found if (module, name) not in OUTPUTS)


@pytest.mark.parametrize("module", CLI)
def test_the_command_line_only_parses_calls_and_prints(module: str) -> None:
    source = MODULES[module].read_text(encoding="utf-8")
    assert work_in_loops(source, module) == []
    imported = imports_of(source, module)
    assert [name for name in imported if within(name, "torch") or within(name, "numpy")] == []


@pytest.mark.parametrize(
    "source",
    [
        "from pixit.results import Separation\nfor path in paths:\n    Separation.load(path)",
        "from pixit.audio import open_audio\n[open_audio(path) for path in paths]",
        "def f(paths):\n    from pixit.audio import open_audio\n    while paths:\n        open_audio(paths.pop())",
        "for path in paths:\n    separator(path)",
        "for path in paths:\n    job.run(path)",
        "def one(path):\n    separator(path)\nfor path in paths:\n    one(path)",
        "def one(path):\n    return two(path)\ndef two(path):\n    return load()(path)\n{p: one(p) for p in paths}",
        "[x for path in paths for x in read(path)]",
        "[path for path in paths if is_result(path)]",
        "import soundfile\nfor path in paths:\n    soundfile.read(path)",
    ],
)
def test_work_in_a_loop_of_the_command_line_is_caught(source: str) -> None:
    assert work_in_loops(source, "pixit.cli.x")


@pytest.mark.parametrize(
    "source",
    [
        "from pixit.pipeline.batch import separate_all\nfor done in separate_all(paths):\n    print(done.uri)",
        "from pixit.cli.console import say\nfor line in lines:\n    say(line.strip())",
        "from pixit.cli.console import say\ndef show(x):\n    say(str(x))\n[show(x) for x in library()]",
        "import re\n[re.fullmatch('a', value) for value in options.values()]",
    ],
)
def test_harmless_loops_of_the_command_line_are_allowed(source: str) -> None:
    assert work_in_loops(source, "pixit.cli.x") == []


# --- what importing pixit does --------------------------------------------------------------------------


def run_python(code: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_pixit_is_light_and_has_no_side_effects() -> None:
    """No heavy library, no socket, no seed, no thread setting, nothing printed or warned of."""
    heavy = "'torch', 'pytorch_lightning', 'transformers', 'pyannote.database', 'matplotlib', 'scipy', 'pixit.cli'"
    out = run_python(
        f"""
        import os, random, socket, sys, warnings
        import numpy
        warnings.simplefilter("error")
        def refuse(*_, **__):
            raise AssertionError("opened a socket")
        socket.socket = socket.create_connection = refuse
        before = random.getstate(), str(numpy.random.get_state()), dict(os.environ)
        import pixit
        assert before == (random.getstate(), str(numpy.random.get_state()), dict(os.environ))
        print([name for name in ({heavy}) if name in sys.modules])
        """
    )
    assert out == "[]"


def test_public_names_set_no_threads_and_seed_nothing() -> None:
    out = run_python(
        """
        import socket, sys
        import torch
        def refuse(*_, **__):
            raise AssertionError("opened a socket")
        socket.socket.connect = socket.create_connection = refuse
        before = torch.get_num_threads(), torch.get_num_interop_threads(), torch.get_rng_state()
        default = torch.get_default_dtype(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()
        import pixit
        for name in getattr(pixit, "__all__", ()):
            getattr(pixit, name)
        after = torch.get_num_threads(), torch.get_num_interop_threads(), torch.get_rng_state()
        assert before[:2] == after[:2] and torch.equal(before[2], after[2])
        assert default == (
            torch.get_default_dtype(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()
        )
        print([n for n in ("pytorch_lightning", "transformers", "pyannote.database") if n in sys.modules])
        """
    )
    assert out == "[]"


def test_a_result_does_not_bring_the_report() -> None:
    assert run_python("import sys, pixit.results; print('pixit.report.page' in sys.modules)") == "False"


# --- lint and types -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)],
)
def test_the_code_is_clean(arguments: tuple[str, ...]) -> None:
    """As CI checks it; skipped where the tool is not installed."""
    if importlib.util.find_spec(arguments[0]) is None:
        pytest.skip(f"{arguments[0]} is not installed")
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
