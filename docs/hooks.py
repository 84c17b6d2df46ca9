"""What building the site needs besides mkdocs.yml, which names this file.

The pages are written to be read on GitHub, and the docstrings for Sphinx, as Optuna's are. Both
are translated here.
"""

from __future__ import annotations

import inspect
from pathlib import Path
import re
import textwrap
from typing import Any

from griffe import Extension
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File
from mkdocs.structure.files import Files


ROOT = Path(__file__).parents[1]
PICTURES = "tests/pictures"

_OUTSIDE = re.compile(r"\]\(\.\./((?!\.\.)[^)#]+)\)")
_PAGE = re.compile(r'href="([\w-]+)\.md(?=["#])')
_CODE_BLOCK = re.compile(r"^( *)\.\. code-block:: (\w+)\n\n((?:\1 +.*\n|\n)+)", re.MULTILINE)
_ROLE = re.compile(r":(?:attr|class|func|meth):`~?(?:[\w.]+\.)?(\w+)`")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pictures that pages show from elsewhere in the repository."""
    for path in (ROOT / PICTURES).glob("*.png"):
        uri = f"pictures/{path.name}"
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: MkDocsConfig, **_: Any) -> str:
    """Make links that leave docs/ lead to the repository, and those to pictures to the copies."""
    if "/" in page.file.src_uri:
        return markdown

    def replace(link: re.Match[str]) -> str:
        if link[1].startswith(PICTURES):
            return f"](pictures/{Path(link[1]).name})"
        kind = "tree" if (ROOT / link[1]).is_dir() else "blob"
        return f"]({config.repo_url}/{kind}/main/{link[1]})"

    return _OUTSIDE.sub(replace, markdown)


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Make a notebook's links to other pages lead to them; mkdocs sees to those of Markdown."""
    return _PAGE.sub(r'href="../\1/', html) if page.file.src_uri.endswith(".ipynb") else html


class MarkdownDocstrings(Extension):
    """Turns the code blocks and the references of reStructuredText into Markdown."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Translate the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(docstring: str) -> str:
    """A docstring with fenced code blocks, and with names in place of references."""

    def fence(block: re.Match[str]) -> str:
        lines = [f"```{block[2]}", textwrap.dedent(block[3]).strip("\n"), "```"]
        return textwrap.indent("\n".join(lines), block[1]) + "\n\n"

    text = _CODE_BLOCK.sub(fence, inspect.cleandoc(docstring) + "\n")
    return _ROLE.sub(r"`\1`", text)
