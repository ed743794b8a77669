"""The pages and pictures of the site that lie outside docs/, where they are read on their own too.

README is the site's first page. Links are written so that they work where a file lies; here they are changed to
where it stands in the site: beside the pages of docs/.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

OUTSIDE = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "examples/*.png",
    "pixit/bundled/README.md",
    "recipes/*/*.md",
)


def on_files(files: Files, config: Any) -> Files:
    """Add the files to those of docs/."""
    repository = Path(config.config_file_path).parent
    for path in sorted(path for pattern in OUTSIDE for path in repository.glob(pattern)):
        uri = path.relative_to(repository).as_posix()
        files.append(
            File.generated(config, "index.md" if uri == "README.md" else uri, abs_src_path=str(path))
        )
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Change links into and out of docs/, which has no folders below it."""
    return re.sub(r"\]\((\.\./|docs/)(?!\.)", "](", markdown)
