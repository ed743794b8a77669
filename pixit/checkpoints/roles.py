"""What a network that was loaded is for: whoever needs a model is not to be handed an embedder."""

from __future__ import annotations

from typing import Any, Literal

from pixit.types import Embedder, LocalDiarizer, PixitError, separates

Role = Literal["model", "separating model", "embedder"]


def check_role(network: object, role: Role, place: object) -> Any:
    """Return a network that was loaded from `place`; a PixitError if it is another than is expected there."""
    if role == "embedder":
        fits = isinstance(network, Embedder)
    else:
        fits = isinstance(network, LocalDiarizer) and (role == "model" or separates(network))
    if not fits:
        expected = {
            "model": "a model",
            "separating model": "a model that separates",
            "embedder": "an embedder",
        }
        found = type(network).__name__
        raise PixitError(f"{place}: is a {found}, expected {expected[role]}; is it the other one?")
    return network
