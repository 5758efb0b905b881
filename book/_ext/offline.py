"""The book's Sphinx extension: pages that need no network, and outputs that follow the library.

* plotly.js is copied out of the installed plotly package, so versions cannot drift; pages with a plotly figure load it
* the scripts and styles of sphinx-thebe, which name a server, are taken out of every page
* the theme's font preloads are taken out: from file:// a browser refuses them, complains, and loads the fonts by CSS
* executed notebooks come from the cache that data_scripts/notebook.py keeps for this state of the repository
"""

import re
import shutil
import sys
from pathlib import Path

import plotly

ROOT = Path(__file__).resolve().parents[2]
FONT_PRELOAD = re.compile(r'<link rel="preload" as="font"[^>]*>')
sys.path.insert(0, str(ROOT))  # data_scripts is not an installed package


def choose_execution_cache(app, config) -> None:
    """jupyter-cache knows a notebook by its own code; the folder's name knows the library and the data."""
    from data_scripts.notebook import execution_cache
    from sa0lib.profile import current_profile

    config.nb_execution_cache_path = str(execution_cache(current_profile().name))


def copy_plotly(app) -> None:
    """Put plotly.js among the static files."""
    folder = Path(app.outdir).parent / "plotly_static"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", folder / "plotly.min.js")
    app.config.html_static_path.append(str(folder))


def choose_scripts(app, pagename, templatename, context, doctree) -> None:
    """Drop what would call outside; load plotly.js where a figure needs it."""

    def local(asset) -> bool:
        attributes = getattr(asset, "attributes", {})
        return "thebe" not in f"{getattr(asset, 'filename', asset)} {attributes.get('body', '')}"

    # In place: the call of add_js_file below appends to this very list.
    context["script_files"][:] = [js for js in context["script_files"] if local(js)]
    context["css_files"][:] = [css for css in context["css_files"] if local(css)]
    if "plotly-graph-div" in (context.get("body") or ""):
        app.add_js_file("plotly.min.js", priority=90)


def drop_font_preloads(app, exception) -> None:
    """The theme writes them into its layout, past `script_files` and `css_files`."""
    if exception is None:
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text(encoding="utf8")
            page.write_text(FONT_PRELOAD.sub("", text), encoding="utf8")


def setup(app) -> dict:
    app.connect("config-inited", choose_execution_cache, priority=100)
    app.connect("builder-inited", copy_plotly)
    app.connect("html-page-context", choose_scripts, priority=900)
    app.connect("build-finished", drop_font_preloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
