"""Settings from YAML files and overrides: what is read, and what is said when it does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import Field, ValidationError, field_validator

from pixit.config import Settings, load_settings, read_yaml, settings_from_mapping
from pixit.types import PixitError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


class Part(Settings):
    weight: float = 1.0


class Inner(Settings):
    learning_rate: float = Field(3e-4, gt=0)
    frozen: bool = False
    parts: tuple[Part, ...] = ()

    @field_validator("parts")
    @classmethod
    def _few(cls, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        if len(parts) > 2:
            raise ValueError("RTTM files: at most 2")
        return parts


class Outer(Settings):
    epochs: int = Field(10, ge=1)
    name: str = "a"
    folder: Path | None = None
    counts: tuple[tuple[int, int, float], ...] = ((1, 1, 0.5),)
    optimizer: Inner = Inner()
    simulation: Inner | None = None
    free: dict[str, object] = Field({}, description="anything")


class Needy(Settings):
    speech: Path


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def message_of(kind: type[Settings], path: Path | None, *overrides: str) -> str:
    with pytest.raises(PixitError) as caught:
        load_settings(kind, path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


def test_nothing_given_is_the_defaults(tmp_path: Path) -> None:
    assert load_settings(Outer) == Outer()
    assert load_settings(Outer, write(tmp_path, "")) == Outer()
    assert load_settings(Outer, write(tmp_path, "# only a comment\n")) == Outer()


def test_file_and_overrides_go_into_nested_sections(tmp_path: Path) -> None:
    path = write(tmp_path, "epochs: 3\noptimizer: {learning_rate: 0.1, frozen: true}\n")
    settings = load_settings(
        Outer, path, ["optimizer.learning_rate=0.2", "name=b=c", "simulation.frozen=yes"]
    )
    assert settings.epochs == 3
    assert settings.optimizer == Inner(learning_rate=0.2, frozen=True)
    assert settings.name == "b=c"
    assert settings.simulation == Inner(frozen=True)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1.e-3", ".1e-2", "0.001", "1.0e-3", "100e-5"])
def test_numbers_may_be_written_with_an_exponent(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, f"optimizer: {{learning_rate: {text}}}\nfree: {{deep: [{text}, {{x: {text}}}]}}\n")
    settings = load_settings(Outer, path)
    assert settings.optimizer.learning_rate == pytest.approx(1e-3)
    assert settings.free == {"deep": [pytest.approx(1e-3), {"x": pytest.approx(1e-3)}]}
    overridden = load_settings(Outer, None, [f"free.x={text}", f"optimizer={{learning_rate: {text}}}"])
    assert overridden.free == {"x": pytest.approx(1e-3)}
    assert overridden.optimizer.learning_rate == pytest.approx(1e-3)


@pytest.mark.parametrize("text", ["1e", "e5", "1e-3x", "12e4e5", "ee", "'1e-3'", "v1e-3", "-e3"])
def test_text_stays_text(text: str) -> None:
    assert load_settings(Outer, None, [f"name={text}"]).name == text.strip("'")


def test_lists_become_tuples_and_null_is_none(tmp_path: Path) -> None:
    path = write(tmp_path, "counts: [[1, 1, 0.4], [2, 0, 6e-1]]\nfolder: somewhere\n")
    settings = load_settings(Outer, path, ["optimizer.parts=[{weight: 2}, {}]"])
    assert settings.counts == ((1, 1, 0.4), (2, 0, 0.6))
    assert settings.folder == Path("somewhere")
    assert settings.optimizer.parts == (Part(weight=2), Part())
    assert load_settings(Outer, path, ["folder=null"]).folder is None


def test_an_override_fills_an_empty_section(tmp_path: Path) -> None:
    path = write(tmp_path, "simulation:\noptimizer: null\n")
    settings = load_settings(Outer, path, ["simulation.frozen=true", "optimizer.frozen=true"])
    assert settings.simulation is not None
    assert settings.simulation.frozen
    assert settings.optimizer.frozen


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("epoch=3", ["'epoch'", "did you mean 'epochs'?"]),
        ("optimizer.learning_rat=1", ["'optimizer.learning_rat'", "did you mean 'learning_rate'?"]),
        ("optimiser.learning_rate=1", ["'optimiser'", "did you mean 'optimizer'?"]),
        ("simulation.frosen=1", ["'simulation.frosen'", "did you mean 'frozen'?"]),
        ("optimizer.parts=[{}, {wieght: 1}]", ["'optimizer.parts.1.wieght'", "did you mean 'weight'?"]),
        ("xyz=3", ["'xyz'", "known keys: counts, epochs, folder"]),
        ("=3", ["unknown key ''"]),
        ("epochs", ["'epochs'", "expected key=value"]),
        ("epochs=0", ["epochs", "greater than or equal to 1", "found 0"]),
        ("epochs=many", ["epochs", "valid integer", "found 'many'"]),
        ("epochs=1.5", ["epochs", "found 1.5"]),
        ("optimizer=3", ["optimizer", "found 3"]),
        ("epochs.x=3", ["'epochs.x'", "unknown key"]),
        ("name=[1", ["override 'name=[1'", "not valid YAML"]),
        ("optimizer.frozen=perhaps", ["optimizer.frozen", "found 'perhaps'"]),
        ("optimizer.parts=[{}, {}, {}]", ["RTTM files: at most 2"]),  # as written, not in small letters
        (f"epochs={'x' * 500}", ["epochs", "..."]),
    ],
)
def test_mistakes_in_overrides_are_told_in_one_line(override: str, parts: list[str]) -> None:
    if override == "epochs.x=3":
        parts = ["epochs", "found {'x': 3}"]
    message = message_of(Outer, None, override)
    assert all(part in message for part in parts), message


def test_an_override_does_not_go_through_a_value(tmp_path: Path) -> None:
    assert "'epochs' is a value" in message_of(Outer, write(tmp_path, "epochs: 3"), "epochs.x=1")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("- a\n- b\n", "expected a YAML mapping (key: value), found list"),
        ("just text", "found str"),
        ("a: [1\nb: 2\n", "is not valid YAML"),
        ("a: b: c", "is not valid YAML"),
        ("\tepochs: 3", "is not valid YAML"),
        ("epochs: !!python/object/apply:os.getcwd []", "is not valid YAML"),
        ("epoch: 3", "did you mean 'epochs'?"),
        ("3: 4", "3: keys should be strings"),
    ],
)
def test_mistakes_in_files_name_the_file(tmp_path: Path, text: str, part: str) -> None:
    path = write(tmp_path, text)
    message = message_of(Outer, path)
    assert message.startswith(str(path))
    assert part in message, message


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    assert "No such file" in message_of(Outer, tmp_path / "none.yaml")
    assert "directory" in message_of(Outer, tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: Jürgen".encode("latin-1"))
    assert "not UTF-8" in message_of(Outer, tmp_path / "latin.yaml")


def test_a_required_value_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    assert message_of(Needy, path) == f"{path}: speech: a value is required, found none"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Outer().epochs = 3  # type: ignore[misc]


def test_what_is_dumped_is_read_again(tmp_path: Path) -> None:
    settings = load_settings(
        Outer, None, ["optimizer.learning_rate=1e-7", "folder=a/b", "counts=[[2, 1, 1]]"]
    )
    text = yaml.safe_dump(settings.model_dump(mode="json"))
    assert load_settings(Outer, write(tmp_path, text)) == settings


def test_a_mapping_is_checked_too() -> None:
    with pytest.raises(PixitError, match=r"config.json: unknown key 'epohcs'"):
        settings_from_mapping(Outer, {"epohcs": 1}, "config.json")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_of_the_repository_loads(path: Path) -> None:
    if path.name.startswith("speaker"):
        from pixit.training.train_speaker import SpeakerRun

        load_settings(SpeakerRun, path, ["speech=[a]", "validation=[b]"])
        return
    from pixit.models.totatonet import ToTaToNet
    from pixit.training.train import TrainSettings

    settings = load_settings(TrainSettings, path)
    if settings.model.get("wavlm") is None:  # else too large to be built for a test
        assert ToTaToNet(**settings.model).num_speakers == 3


def test_the_paper_is_the_defaults() -> None:
    from pixit.training.train import TrainSettings

    assert load_settings(TrainSettings, CONFIGS / "pixit.yaml") == TrainSettings()


def test_configs_hold_only_differences() -> None:
    """A value that repeats a default would drift away from it unseen."""
    from pixit.training.train import TrainSettings

    defaults = TrainSettings().model_dump(mode="json")
    for name in ("cpu-small.yaml", "test-minute.yaml"):
        for section, values in read_yaml(CONFIGS / name).items():
            for key, value in values.items() if isinstance(values, dict) and section != "model" else ():
                assert defaults[section][key] != value, f"{name}: {section}.{key}"


def test_what_is_given_is_taken_as_it_is(tmp_path: Path) -> None:
    name = "run #2, [a]: cache"
    found = load_settings(Outer, None, ["epochs=3"], {"folder": Path(name), "optimizer.frozen": True})
    assert (found.folder, found.epochs, found.optimizer.frozen) == (Path(name), 3, True)
    assert load_settings(Outer, None, ["name=b"], {"name": "2024"}).name == "b"
    assert load_settings(Outer, None, given={"name": "2024"}).name == "2024"
