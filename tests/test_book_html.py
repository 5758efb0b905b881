"""The built pages: complete, self-contained, and readable without seeing the figures."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
import yaml

from sa0lib.paths import ROOT

ELSEWHERE = re.compile(r"([a-z][a-z0-9+.-]*:)?//", re.I)
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """What the checks need of one page: what it loads, links to, names, shows and says."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.text = path, path.read_text(encoding="utf8")
        self.loads: list[str] = []  # fetched without a click
        self.links: list[str] = []  # fetched on a click
        self.ids: list[str] = []
        self.pictures: list[dict] = []  # attributes of the article's <img>
        self.figures: list[str] = []  # labels of the article's interactive figures
        self.inputs: list[tuple[dict, bool]] = []  # the article's range inputs; is there a label around?
        self.headings: list[tuple[int, str]] = []  # the article's
        self.language = ""
        self._stack: list[tuple[str, dict]] = []
        self.feed(self.text)

    def _inside(self, tag: str, **attributes: str) -> bool:
        return any(t == tag and all(a.get(k) == v for k, v in attributes.items()) for t, a in self._stack)

    def handle_starttag(self, tag, attrs):
        a = {k: v or "" for k, v in attrs}
        if tag not in VOID:
            self._stack.append((tag, a))
        self.ids += [a["id"]] if a.get("id") else []
        if tag == "html":
            self.language = a.get("lang", "")
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed") and a.get("src"):
            self.loads.append(a["src"])
        if tag == "link" and a.get("href") and not {"canonical", "author"} & set(a.get("rel", "").split()):
            self.loads.append(a["href"])
        if tag == "a" and a.get("href"):
            self.links.append(a["href"])
        if self._inside("article"):
            if tag == "img":
                self.pictures.append(a)
            if a.get("role") == "img":
                self.figures.append(a.get("aria-label", ""))
            if tag == "input" and a.get("type") == "range":
                self.inputs.append((a, self._inside("label")))
            if re.fullmatch(r"h[1-6]", tag):
                self.headings.append((int(tag[1]), ""))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        while any(t == tag for t, _ in self._stack):
            if self._stack.pop()[0] == tag:
                break

    def handle_data(self, data):
        if self.headings and self._inside("article") and any(re.fullmatch(r"h[1-6]", t) for t, _ in self._stack):
            level, text = self.headings[-1]
            self.headings[-1] = (level, text + data)


@pytest.fixture(scope="module")
def pages(book) -> list[Page]:
    """Every page that a reader is meant to see."""
    return [Page(p) for p in sorted(book.rglob("*.html")) if "_static" not in p.relative_to(book).parts]


@pytest.fixture(scope="module")
def chapters(pages) -> list[Page]:
    return [p for p in pages if p.path.parent.name == "notebooks"]


def table_of_contents() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]


def test_every_page_of_the_table_of_contents_was_built(book):
    missing = [name for name in table_of_contents() if not (book / f"{name}.html").is_file()]
    assert not missing


def test_every_notebook_is_in_the_table_of_contents():
    sources = {f"notebooks/{p.stem}" for p in (ROOT / "notebooks").glob("*.py")}
    assert sources == {name for name in table_of_contents() if name.startswith("notebooks/")}


def test_every_code_cell_of_every_notebook_is_on_its_page(chapters):
    for page in chapters:
        nb = nbformat.read(ROOT / "notebooks" / f"{page.path.stem}.ipynb", as_version=4)
        cells = [c for c in nb.cells if c.cell_type == "code"]
        shown = [c for c in cells if not {"remove-cell", "remove-input"} & set(c.metadata.get("tags", []))]
        assert page.text.count('class="cell_input ') == len(shown), page.path.name


def test_no_page_loads_anything_from_outside(pages):
    loads = [(p.path.name, u) for p in pages for u in p.loads if ELSEWHERE.match(u)]
    styles = [
        (p.path.name, u) for p in pages for u in re.findall(r"(?:@import|url\()\s*[\"']?(https?:[^\"')]+)", p.text)
    ]
    assert not loads + styles


def test_no_page_names_a_script_server(pages):
    named = [(p.path.name, m) for p in pages for m in re.findall(r"unpkg|jsdelivr|cdnjs|cdn\.plot|googleapis", p.text)]
    assert not named


def test_every_local_link_and_anchor_resolves(book, pages):
    ids = {p.path.resolve(): set(p.ids) for p in pages}
    dead = []
    for page in pages:
        for link in page.loads + page.links:
            if re.match(r"[a-z][a-z0-9+.-]*:", link, re.I):
                continue
            file, _, anchor = link.partition("#")
            file = unquote(file.partition("?")[0])
            target = (page.path.parent / file).resolve() if file else page.path.resolve()
            if not target.exists() or (anchor and target in ids and unquote(anchor) not in ids[target]):
                dead.append((page.path.name, link))
    assert not dead


def test_ids_are_unique_in_a_page(pages):
    # search-input stands twice on the search page; sphinx-exercise and sphinx-proof give all their boxes the same ids,
    # linked by none
    not_ours = {"search-input", "exercise-content", "solution-content", "proof", "proof-content"}
    twice = [(p.path.name, i) for p in pages for i, n in Counter(p.ids).items() if n > 1 and i not in not_ours]
    assert not twice


def is_real(alt: str) -> bool:
    """Does it say what a figure shows? A file name, which MyST-NB falls back to, does not."""
    return len(alt.split()) >= 4 and not re.search(r"\.(png|svg|jpe?g|gif|webp)\b|_images/", alt)


def test_every_picture_has_real_alt_text(pages):
    poor = [(p.path.name, a.get("alt")) for p in pages for a in p.pictures if not is_real(a.get("alt", ""))]
    assert not poor


def test_every_interactive_figure_has_real_alt_text(pages):
    poor = [(p.path.name, label) for p in pages for label in p.figures if not is_real(label)]
    assert not poor
    for page in pages:  # and none came without the helper that puts it there
        assert page.text.count("plotly-graph-div") == page.text.count('class="sa0-figure"'), page.path.name


def test_no_two_figures_of_a_page_share_their_alt_text(pages):
    for page in pages:
        alts = [a.get("alt") for a in page.pictures] + page.figures
        assert len(alts) == len(set(alts)), page.path.name


def test_every_slider_is_a_labelled_native_input(pages):
    unlabelled = [(p.path.name, a) for p in pages for a, labelled in p.inputs if not labelled]
    assert not unlabelled


def test_every_chapter_has_an_interactive_figure_that_needs_no_kernel(chapters):
    without = [p.path.name for p in chapters if not p.figures and "sa0-slider" not in p.text]
    assert not without


def test_headings_form_an_outline(pages):
    for page in pages:
        levels = [level for level, _ in page.headings]
        if not levels:  # search and index pages
            continue
        assert levels[0] == 1 and levels.count(1) == 1, f"{page.path.name}: one first heading is wanted"
        jumps = [b for a, b in zip(page.headings, page.headings[1:], strict=False) if b[0] > a[0] + 1]
        assert not jumps, f"{page.path.name} skips a level before {jumps}"


def test_every_page_says_its_language(pages):
    assert {p.language for p in pages if p.path.parent.name in ("book", "notebooks")} == {"en"}


def test_no_output_is_an_error_or_a_warning(chapters):
    for page in chapters:
        assert "Traceback (most recent call last)" not in page.text, page.path.name
        assert 'class="output stderr' not in page.text, page.path.name


def test_no_table_is_left_as_text(pages):
    assert not [p.path.name for p in pages if re.search(r"<p>\s*\|", p.text)]


def test_no_page_is_heavier_than_a_few_photographs(chapters):
    heavy = {p.path.name: len(p.text) for p in chapters if len(p.text) > 6_000_000}
    assert not heavy
