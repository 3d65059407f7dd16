"""Real Chromium against a real server: skipped where the browser or its driver is not there.

Wanted: ``chromium`` on the path (Debian's package) and ``playwright`` from the extra ``browser``, whose own browsers
are not needed. For the check of accessibility also axe-core, as ``AXE_CORE=/path/to/axe.min.js`` (npm's package
``axe-core``). ``SCREENSHOTS=/some/folder`` keeps a picture of every page that the tests look at.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serving import create_app
from serving.engine import Engine
from serving.portal import Portal
from silo.generation import Silo
from tests.serving.conftest import serving
from tests.serving.portal_visitor import TOKEN, Hosts

PAGES = range(50, 56)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """One Chromium for all tests."""
    if CHROMIUM is None:
        pytest.skip("no `chromium` on the path; install Debian's package `chromium`")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright; pip install 'silo-lm[browser]'")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


@pytest.fixture
def store(browser, llama, build, manual):
    """Pages of a manual that can be claimed by host; built only where there is a browser."""
    return build(
        llama,
        [
            replace(page, url=f"https://press.example.org/{page.id}")
            for page in manual(PAGES.start, PAGES.stop, "LicenseRef-Proprietary")
        ],
    )


@pytest.fixture
def texts(manual) -> dict[str, str]:
    return {page.id: page.text for page in manual(PAGES.start, PAGES.stop, "LicenseRef-Proprietary")}


@pytest.fixture
def url(store, llama, hosts) -> Iterator[str]:
    with serving(create_app(Engine(Silo(llama, store)), portal=Portal(store, hosts, TOKEN))) as address:
        yield address


@pytest.fixture
def new_page(browser, url) -> Iterator[Callable]:
    """Pages in contexts of their own; whatever a console says there, or a page asks of another host, fails the test."""
    contexts, said = [], []

    def make(**options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, "base_url": url} | options)
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if _is_fault(message) else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request",
            lambda asked: said.append(f"asked {asked.url}") if not asked.url.startswith((url, "blob:")) else None,
        )
        page.said = said
        return page

    yield make
    for context in contexts:
        context.close()
    assert said == []


def _is_fault(message) -> bool:
    """Whether the console says that something is wrong with a page; a page that says no is answered with 4xx."""
    return message.type in ("error", "warning") and "responded with a status of 4" not in message.text


@pytest.fixture
def page(new_page):
    return new_page()


@pytest.fixture
def picture() -> Callable:
    """Keeps a picture of a page under a name, where ``SCREENSHOTS`` names a folder."""
    folder = os.environ.get("SCREENSHOTS")

    def keep(page, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    return keep


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    path = os.environ.get("AXE_CORE")
    if not path or not Path(path).is_file():
        pytest.skip("no axe-core; `npm install axe-core` in some folder and set AXE_CORE to its axe.min.js")
    return Path(path).read_text(encoding="utf-8")
