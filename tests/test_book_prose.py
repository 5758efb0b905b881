"""The prose: no measured number is typed into it, and cells stay short."""

import re
from collections.abc import Iterator

import jupytext
import pytest
from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.front_matter import front_matter_plugin

from sa0lib.paths import ROOT

PAGES = sorted((ROOT / "book").glob("*.md"))
CHAPTERS = sorted((ROOT / "notebooks").glob("*.py"))
MARKDOWN = MarkdownIt().use(colon_fence_plugin).use(dollarmath_plugin).use(front_matter_plugin)
WORDLESS = ("math", "code", "bibliography", "glue")  # directives whose body is no prose

DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+(?!\.?\w)")
PLACE = re.compile(r"\b(Sec\.|Section|App\.|Appendix|Chapter|Table|Fig\.|Eq\.|arXiv[: ])\s*\(?[A-Z0-9]+(\.\d+)*")
SCORE = re.compile(r"\d\s*(?:\\,|~|\s)*(?:\\text\{|\\mathrm\{)?\s*dB\b")


def prose(text: str, spans: tuple[str, ...] = ("text",)) -> Iterator[str]:
    """The words of a page, captions and text inside directives included; no code and no mathematics."""
    for token in MARKDOWN.parse(text):
        if token.type == "inline":
            yield "".join(t.content if t.type in spans else "\n" for t in token.children)
        elif token.type in ("fence", "colon_fence"):
            directive = re.match(r"\{(?:\w+:)?([\w-]+)\}\s*(.*)", token.info.strip())
            if directive and not directive[1].startswith(WORDLESS):
                yield directive[2]
                options_away = re.sub(
                    r"\A(?::[\w-]+:.*\n)+", lambda m: "\n".join(re.findall(r":alt:(.*)", m[0])), token.content
                )
                yield from prose(options_away, spans)


def typed_decimals(text: str) -> list[str]:
    return DECIMAL.findall(PLACE.sub(" ", "\n".join(prose(text))))


def typed_scores(text: str) -> list[str]:
    return SCORE.findall("\n".join(prose(text, spans=("text", "code_inline", "math_inline", "math_single"))))


def texts() -> list:
    pages = [pytest.param(p.read_text(encoding="utf8"), id=p.name) for p in PAGES]
    for path in CHAPTERS:
        cells = jupytext.read(path, fmt="py:percent").cells
        pages.append(pytest.param("\n\n".join(c.source for c in cells if c.cell_type == "markdown"), id=path.name))
    return pages


@pytest.mark.parametrize("text", texts())
def test_no_number_with_a_fraction_is_typed_into_prose(text):
    """Results come from cells and records; a constant of the method is written as code or mathematics."""
    assert not typed_decimals(text)


@pytest.mark.parametrize("text", texts())
def test_no_score_is_typed_not_even_as_code_or_mathematics(text):
    assert not typed_scores(text)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.name)
def test_no_code_cell_is_longer_than_25_lines(path):
    cells = jupytext.read(path, fmt="py:percent").cells
    long = [c.source.splitlines()[0] for c in cells if c.cell_type == "code" and len(c.source.splitlines()) > 25]
    assert not long, "longer machinery belongs in sa0lib"


@pytest.mark.parametrize(
    "typed",
    [
        "It reaches 27.31 in the end.",
        "| method | score |\n| --- | --- |\n| ours | 0.91 |",
        "```{note}\nOnly 3.5 are left.\n```",
        ":::{figure} a.png\n:alt: A bar of height 0.4\n\nCaption.\n:::",
        "````{tab-set}\n```{tab-item} One\nIt is 1.5 now.\n```\n````",
    ],
)
def test_the_check_finds_a_typed_number(typed):
    assert typed_decimals(typed)


@pytest.mark.parametrize(
    "fine",
    [
        "Eq. (4), Table 3, Python `3.11`, App. A.4, Sec. 3.3, arXiv 2606.15659",
        "with $\\tau = 0.5$",
        "```python\nx = 0.5\n```",
        "```{math}\n:label: eq-x\nx = 0.5\n```",
        "{glue:text}`psnr:.2f` dB",
    ],
)
def test_the_check_lets_code_mathematics_and_places_pass(fine):
    assert not typed_decimals(fine)
    assert not typed_scores(fine)


@pytest.mark.parametrize("typed", ["gains 2 dB", "gains $2.1$ dB", "`27` dB", "$27\\,\\text{dB}$"])
def test_the_check_finds_a_typed_score(typed):
    assert typed_scores(typed)
