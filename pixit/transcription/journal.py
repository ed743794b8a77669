"""What was recognised so far, on disk: a killed run continues where it was, and a finished one is not repeated."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pixit.files import write_text
from pixit.transcription.recognizers import Word
from pixit.transcription.stretches import Stretch
from pixit.types import PixitError


class Journal:
    """JSON lines: first the request, then a line for each recognised stretch, on disk before the next begins.

    A last line that a killed run left unfinished is dropped.

    Parameters
    ----------
    path
        The file; made, with its request, when the first stretch is added or by `begin`.
    request
        Everything that determines the words, fit for JSON.

    Attributes
    ----------
    num_added
        Stretches that this run added.

    Raises
    ------
    PixitError
        If the file cannot be read, is not a journal, or is that of another request.
    """

    def __init__(self, path: Path, request: Mapping[str, Any]) -> None:
        self.path = path
        self.request = json.loads(json.dumps(request))
        self._words: dict[Stretch, list[Word]] = {}
        self._is_begun = False
        self.num_added = 0
        if path.exists():
            self._read()

    def get(self, stretch: Stretch) -> list[Word] | None:
        """Return the words of a stretch, or None if it was not recognised yet."""
        return self._words.get(stretch)

    def add(self, stretch: Stretch, words: Sequence[Word]) -> None:
        """Write down the words of a stretch."""
        self.begin()
        self._words[stretch] = list(words)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(stretch, words))
            file.flush()
            os.fsync(file.fileno())
        self.num_added += 1

    def begin(self) -> None:
        """Write the file as far as it is known, whole or not at all."""
        if self._is_begun:
            return
        lines = [json.dumps({"request": self.request}, ensure_ascii=False) + "\n"]
        lines += [_line(stretch, words) for stretch, words in self._words.items()]
        write_text(self.path, "".join(lines))
        self._is_begun = True

    def _read(self) -> None:
        try:
            first, *lines = self.path.read_bytes().split(b"\n")[:-1] or [b""]
            request = json.loads(first)["request"]
            for line in lines:
                entry = json.loads(line)
                stretch = Stretch(entry["speaker"], entry["start"], entry["stop"])
                self._words[stretch] = [Word(*word) for word in entry["words"]]
        except OSError as error:
            raise PixitError(f"{self.path}: cannot be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError):
            raise PixitError(f"{self.path}: is not the journal of a transcription; remove it") from None
        changed = [key for key in self.request if request.get(key) != self.request[key]]
        if changed:
            raise PixitError(
                f"{self.path}: was begun with something else ({', '.join(changed)}); pass --overwrite to "
                "start afresh, or choose another folder for the output"
            )


def _line(stretch: Stretch, words: Sequence[Word]) -> str:
    entry = {
        "speaker": stretch.speaker,
        "start": stretch.start,
        "stop": stretch.stop,
        "words": [[word.text, round(word.start_s, 4), round(word.end_s, 4)] for word in words],
    }
    return json.dumps(entry, ensure_ascii=False) + "\n"
