import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from silo.errors import NotInstalled
from silo.reporting.blocks import Plot, Series
from silo.reporting.page import page
from silo.reporting.plots import svg
from silo.reporting.runs import Unrecognized, read_runs
from silo.reporting.sections import report

matplotlib = pytest.importorskip("matplotlib", reason="plots need the extra `report`")

LINES = Plot("Loss", "lines", (Series("a", (1.0, 2.0), (3.0, 2.0), style="line"),), "tokens", "nats")


class Tags(HTMLParser):
    """What a page opens and does not close, what it names, and what it would fetch."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.fetched = [], [], [], []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("href", "xlink:href") if name in values]
        self.fetched += [values[name] for name in ("src", "data", "action", "srcset") if name in values]
        self.fetched += [tag] if tag in ("script", "link", "iframe", "img", "object", "embed") else []
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


@pytest.fixture
def rendered(record_run, results):
    for command in ("eval moon", "eval scaling", "eval gap", "eval ppl"):
        record_run(command)
    (results / "metrics.jsonl").write_text('{"step": 1, "tokens": 10, "loss": 2.5}\n')
    return page(report(*read_runs([results])), "Measured <here>")


def test_the_page_is_whole_and_asks_the_network_for_nothing(rendered):
    tags = Tags()
    tags.feed(rendered)
    assert tags.open == [] and tags.fetched == []
    assert all(link.startswith("#") for link in tags.links)
    assert {link[1:] for link in tags.links} <= set(tags.ids)
    assert len(tags.ids) == len(set(tags.ids)), "a name that two plots share would draw one with the other's parts"
    assert re.findall(r"@import|url\((?!#)", rendered) == []
    assert rendered.count("<svg") == 4


def test_the_page_says_what_was_recorded_and_escapes_it(rendered):
    assert "<title>Measured &lt;here&gt;</title>" in rendered
    for text in ("1.377", "1.327 to 1.427", "0.4321", "c0ffeec0ffee", "Extrapolated, not measured", "@media print"):
        assert text in rendered


def test_words_of_a_run_are_never_markup(record_run, results):
    record_run("eval <script>", [{"<b>": "<img src=x>"}], name="evil")
    shown = page(report(*read_runs([results])[:1], [Unrecognized("<i>", "</table>")]), "t")
    tags = Tags()
    tags.feed(shown)
    assert tags.fetched == [] and "&lt;img src=x&gt;" in shown and "&lt;/table&gt;" in shown


def test_the_same_plot_is_the_same_svg_and_its_names_are_its_own():
    assert svg(LINES, "a") == svg(LINES, "a")
    assert 'id="a-' in svg(LINES, "a") and 'id="a-' not in svg(LINES, "b")
    assert not re.findall(r"(?:\bid=\"|href=\"#|url\(#)(?!a-)", svg(LINES, "a"))


def test_text_and_axes_are_black_so_that_print_is_legible():
    drawn = svg(LINES, "a")
    assert "#000000" in drawn.lower() or "fill:" not in drawn
    assert "<text" not in drawn, "letters are shapes: the page looks the same without our fonts"


def test_without_matplotlib_the_page_is_refused_with_what_to_install(monkeypatch, record_run, results):
    record_run("eval ppl")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NotInstalled, match=r"silo-lm\[report\]"):
        page(report(*read_runs([results])), "t")


def test_reading_and_markdown_need_neither_matplotlib_nor_torch():
    code = "import json, sys, silo.reporting.command, silo.reporting.readme\n"
    code += "print(json.dumps([name for name in ('matplotlib', 'torch') if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
