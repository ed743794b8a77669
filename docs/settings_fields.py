"""Settings in the API pages: a field shows its default and the description that ``Field(…)`` carries."""

from __future__ import annotations

import ast
from typing import Any

from griffe import Attribute, Docstring, ExprCall, ExprKeyword, Extension


class SettingsFields(Extension):
    """Reads the fields from the code, which is not run."""

    def on_attribute(self, *, attr: Attribute, **_: Any) -> None:
        """Give the attribute the docstring and the value that its reader wants to see."""
        call = attr.value
        if not isinstance(call, ExprCall) or str(call.function) != "Field":
            return
        named = {
            argument.name: argument.value for argument in call.arguments if isinstance(argument, ExprKeyword)
        }
        if "description" in named:
            attr.docstring = Docstring(ast.literal_eval(str(named["description"])), parent=attr)
        default = call.arguments[0]
        attr.value = named.get("default_factory") if isinstance(default, ExprKeyword) else default
