"""axe-core finds nothing on any page, in either color, at either size."""

import pytest

from datastore.optout import opt_out
from tests.serving.portal_visitor import TOKEN

SIZES = {"desktop": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844}}
RUN = "() => axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"


def _check(page, axe: str) -> None:
    page.evaluate(axe)
    found = page.evaluate(RUN)
    faults = [
        f"{fault['id']}: {node['html'][:200]} {node['failureSummary']}"
        for fault in found["violations"]
        for node in fault["nodes"]
    ]
    assert not faults, "\n".join(faults)
    assert len(found["passes"]) > 5, "the control: axe looked at something"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_have_no_faults_that_axe_finds(new_page, axe, store, texts, now, scheme, size):
    text, _, gone, *_ = texts
    opt_out(store, gone, now=now)
    text = texts[text]
    page = new_page(viewport=SIZES[size], color_scheme=scheme, bypass_csp=True)
    for path in (
        "/",
        "/owners",
        "/verify",
        "/transparency",
        "/review",
        "/owners/digests?prefix=0000",
        "/owners/document?id=none",
    ):
        response = page.goto(path)
        assert response.status in (200, 404)
        _check(page, axe)
    page.goto("/owners")
    page.get_by_label("The text, or a part of it").fill(text)
    page.get_by_role("button", name="Look it up", exact=True).click()
    _check(page, axe)
    page.get_by_role("button", name="Ask to take it out").first.click()
    _check(page, axe)
    link = page.url
    page.get_by_role("button", name="Add a record").click()
    _check(page, axe)
    page.goto(link)
    page.get_by_label("The whole text").fill(text)
    page.get_by_role("button", name="Hide it").click()
    _check(page, axe)
    page.goto("/review")
    page.get_by_label("Reviewer’s token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    _check(page, axe)
    page.locator("tbody a").click()
    _check(page, axe)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_playground_has_no_faults_that_axe_finds(new_page, axe, scheme, size):
    page = new_page(viewport=SIZES[size], color_scheme=scheme, bypass_csp=True)
    page.goto("/playground#compare=1&a-knn-weight=0.9&a-knn-temperature=0.1")
    _check(page, axe)
    page.get_by_label("Begin a text").fill("The objects in this")
    page.get_by_text("Settings", exact=True).click()
    page.keyboard.press("Control+Enter")
    page.locator("[data-status]", has_text="Done").wait_for()
    page.locator(".sentence").first.click()
    page.wait_for_timeout(400)  # until the colors have faded in
    _check(page, axe)
    page.get_by_role("button", name="Take", exact=False).first.click()
    _check(page, axe)
