"""The built pages in a real browser, from disk, with everything it asks the network for written down."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Page, sync_playwright

from sa0lib.paths import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install the package `chromium`")
# The theme says at a first visit that no light or dark mode was chosen yet.
HARMLESS = re.compile(r"Got invalid theme mode: \.")


def names() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]


@pytest.fixture(scope="module")
def network_log(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("browser") / "network.json"


@pytest.fixture(scope="module")
def browser(network_log):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--disable-gpu",
                "--enable-unsafe-swiftshader",  # WebGL, which 3-D figures want, without a GPU
                "--host-resolver-rules=MAP * ~NOTFOUND",  # the network is off
                "--no-sandbox",  # containers have no user namespaces
                f"--log-net-log={network_log}",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def visits(browser: Browser, book) -> dict[str, dict]:
    """Every page opened once: what it asked for, what it complained about, and a screenshot to look at."""
    shots = book.parent / "screenshots"
    shots.mkdir(exist_ok=True)
    found = {}
    for name in names():
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        requests, complaints = [], []
        page.on("request", lambda request, to=requests: to.append(request.url))
        page.on("pageerror", lambda error, to=complaints: to.append(str(error)))
        page.on(
            "console",
            lambda m, to=complaints: to.append(f"{m.text} {m.location['url']}") if m.type == "error" else None,
        )
        open_page(page, book, name)
        found[name] = {"requests": requests, "complaints": complaints, **page.evaluate(MEASURE)}
        page.screenshot(path=shots / f"{name.replace('/', '_')}.png", full_page=True)
        page.close()
    return found


def open_page(page: Page, book: Path, name: str) -> None:
    """Load a page of the book and wait until its mathematics and its figures are drawn."""
    page.goto((book / f"{name}.html").as_uri())  # waits for the load event: every script has run
    page.evaluate("window.MathJax && MathJax.startup ? MathJax.startup.promise : null")
    page.evaluate("document.fonts.ready.then(() => null)")


MEASURE = """() => {
    const all = (selector) => [...document.querySelectorAll("article " + selector)];
    return {
        empty_pictures: all("img").filter((i) => !i.complete || !i.naturalWidth).map((i) => i.alt),
        plots: all(".plotly-graph-div").length,
        drawn_plots: all(".plotly-graph-div").filter((d) => d.querySelector(".main-svg, canvas")).length,
        formulas: all(".math").length,
        drawn_formulas: all(".math").filter((m) => m.querySelector("mjx-container")).length,
        failed_formulas: all("mjx-merror, [data-mjx-error]").length,
        too_wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    };
}"""


@pytest.mark.parametrize("name", names())
def test_a_page_asks_only_for_files(visits, name):
    outside = [url for url in visits[name]["requests"] if not re.match(r"(file|data|blob):", url)]
    assert not outside


@pytest.mark.parametrize("name", names())
def test_a_page_has_no_error_in_its_console(visits, name):
    assert not [text for text in visits[name]["complaints"] if not HARMLESS.search(text)]


@pytest.mark.parametrize("name", names())
def test_everything_on_a_page_is_drawn(visits, name):
    page = visits[name]
    assert not page["empty_pictures"]
    assert page["drawn_plots"] == page["plots"]
    assert page["drawn_formulas"] == page["formulas"]
    assert page["failed_formulas"] == 0
    assert not page["too_wide"], "the page scrolls sideways"


@pytest.mark.parametrize("name", [n for n in names() if n.startswith("notebooks/")])
def test_every_slider_of_a_chapter_moves_its_figure_by_keyboard(browser, book, name):
    page = browser.new_page()
    open_page(page, book, name)
    for box in page.locator(".sa0-slider, .sa0-figure:has(input[type=range])").all():
        picture = box.locator("img, .plotly-graph-div").first
        before, said = picture.evaluate(STATE), box.locator("output").inner_text()
        box.locator("input").focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function(
            "([element, before]) => (" + STATE + ")(element) !== before", arg=[picture.element_handle(), before]
        )
        assert box.locator("output").inner_text() != said
        page.keyboard.press("Home")
        page.wait_for_function(
            "([element, before]) => (" + STATE + ")(element) === before", arg=[picture.element_handle(), before]
        )
    page.close()


# What a figure shows now, as text: the picture's source, or the numbers that plotly draws.
STATE = """(e) => e.tagName === "IMG"
    ? e.src + e.alt
    : JSON.stringify(e._fullData.map((trace) => ["x", "y", "z"].map((axis) => Array.from(trace[axis] || []))))"""


def test_nothing_moves_by_itself_and_play_hides_where_motion_is_unwanted(browser, book):
    chapter = next(n for n in names() if "sa0-slider" in (book / f"{n}.html").read_text(encoding="utf8"))
    page = browser.new_page(reduced_motion="reduce")
    open_page(page, book, chapter)
    assert page.locator(".sa0-slider button").count() == 0
    page.close()
    page = browser.new_page()
    open_page(page, book, chapter)
    slider = page.locator(".sa0-slider").first
    assert slider.locator("input").input_value() == "0"
    slider.locator("button").click()
    page.wait_for_function("(input) => input.value !== '0'", arg=slider.locator("input").element_handle())
    slider.locator("button").click()
    assert slider.locator("button").inner_text() == "play"
    page.close()


def test_the_browsers_own_network_log_has_no_request_of_a_page(visits, browser, network_log, tmp_path):
    """Chromium's own log of the network, independent of the events above. One planted request must be in it."""
    (tmp_path / "planted.html").write_text('<img src="https://planted.example/a.png" alt="">')
    page = browser.new_page()
    page.goto((tmp_path / "planted.html").as_uri())
    browser.close()  # completes the log
    log = json.loads(network_log.read_text())
    start = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    requests = [e["params"] for e in log["events"] if e["type"] == start and "url" in e.get("params", {})]
    # What the browser asks for on its own account (updates, sign-in) carries no page's key.
    from_pages = [r["url"] for r in requests if r["network_isolation_key"].startswith("file:")]
    assert from_pages == ["https://planted.example/a.png"]
