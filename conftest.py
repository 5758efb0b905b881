"""What all tests share: the built book, and what nbval leaves out of its comparisons."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
# Pictures, figures and widgets are looked at in the built book, not byte by byte.
NOT_COMPARED = ("text/html", "image/svg+xml", "application/vnd.plotly.v1+json")


def pytest_collection_modifyitems(items):
    for item in items:
        notebook = item.parent
        if hasattr(notebook, "skip_compare") and not set(NOT_COMPARED) <= set(notebook.skip_compare):
            notebook.skip_compare = (*notebook.skip_compare, *NOT_COMPARED)


@pytest.fixture(scope="session")
def book() -> Path:
    """The folder of the built pages. `make test` builds them and says where in SA0_BOOK; then they must be there."""
    folder = ROOT / os.environ.get("SA0_BOOK", "_build/html")
    if not (folder / "index.html").is_file():
        if "SA0_BOOK" in os.environ:
            pytest.fail(f"no built book in {folder}")
        pytest.skip("the book is not built: run `make book` or `make test`")
    return folder
