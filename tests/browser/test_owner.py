"""An owner's way through the portal in a browser, with scripts and without."""

import json

import pytest

from datastore import requests as asked
from datastore.receipts import check_receipt, receipt_from_json
from datastore.request_states import State
from tests.serving.portal_visitor import TOKEN

DOCUMENT = "manual/50"


def _find_and_ask(page, text: str) -> None:
    page.goto("/owners")
    page.get_by_label("The text, or a part of it").fill(text)
    page.get_by_role("button", name="Look it up", exact=True).click()
    page.locator("li", has_text="the very text").get_by_role("button", name="Ask to take it out").click()


@pytest.mark.parametrize("with_scripts", [True, False])
def test_from_the_question_to_a_verified_receipt(new_page, store, texts, hosts, picture, tmp_path, with_scripts):
    (document, text), *_ = texts.items()
    page = new_page(java_script_enabled=with_scripts)
    _find_and_ask(page, text)
    picture(page, "request-received")
    page.get_by_role("button", name="Put a file there").click()
    place, content = page.locator("pre.copy code").all_inner_texts()
    picture(page, "challenge-file")
    page.get_by_role("button", name="Check it now").click()
    assert "That did not work" in page.get_by_role("alert").inner_text()
    hosts.show_file(place.rsplit("/", 1)[1], content)
    page.get_by_role("button", name="Check it now").click()
    assert page.get_by_role("heading", name="It is out").is_visible()
    picture(page, "request-in-force")
    assert store.live_entries(document) == 0
    with page.expect_download() as started:
        page.get_by_role("link", name="Download the receipt").click()
    path = tmp_path / "receipt.json"
    started.value.save_as(path)
    check_receipt(receipt_from_json(json.loads(path.read_text())))
    page.goto("/verify")
    page.get_by_label("The receipt's file").set_input_files(path)
    page.get_by_role("button", name="Check it").click()
    assert page.get_by_role("heading", name="It holds").is_visible()
    picture(page, "verify-holds")


def test_a_text_is_found_by_its_hash_and_not_sent(page, texts, store):
    (document, text), *_ = texts.items()
    sent = []
    page.on("request", lambda request: sent.append((request.url, request.post_data)))
    page.goto("/owners")
    page.get_by_label("The whole text, which stays in this browser").fill(text)
    page.get_by_role("button", name="Look it up without sending it").click()
    page.locator("[data-private-result] a").wait_for()
    assert page.locator("[data-private-result]").inner_text() == f"It is here, as a whole: {document}"
    digest = store.document(document).facts.digest
    assert any(address.endswith(f"prefix={digest[:5]}") for address, _ in sent)
    assert not any(text[:30] in f"{address}{body}" or digest[:6] in address for address, body in sent)
    page.get_by_label("The whole text, which stays in this browser").fill(text + " More.")
    page.get_by_role("button", name="Look it up without sending it").click()
    page.get_by_text("It is not here as a whole").wait_for()


def test_hidden_rejected_appealed_accepted(new_page, store, texts, picture):
    (document, text), *_ = texts.items()
    owner, reviewer = new_page(), new_page()
    _find_and_ask(owner, text)
    link = owner.url
    owner.get_by_label("The whole text").fill(text)
    owner.get_by_role("button", name="Hide it").click()
    assert owner.get_by_role("heading", name="Hidden for now").is_visible()
    assert store.document(document).state == "hidden"

    reviewer.goto("/review")
    reviewer.get_by_label("Reviewer’s token").fill(TOKEN)
    reviewer.get_by_role("button", name="Sign in").click()
    picture(reviewer, "review")
    _decide(reviewer, "Reject", "It is in the public domain.")
    owner.goto(link)
    owner.get_by_text("It is in the public domain.").wait_for()
    picture(owner, "request-rejected")
    owner.get_by_label("Your reasons").fill("It is not: I wrote it last year.")
    owner.get_by_role("button", name="Appeal").click()
    assert store.document(document).state == "live"
    reviewer.goto("/review")
    picture(reviewer, "review-disputed")
    _decide(reviewer, "Accept: take it out", "You are right.")
    owner.goto(link)
    assert owner.get_by_role("heading", name="It is out").is_visible()
    assert [one.state for one in asked.requests(store)] == [State.ACCEPTED]


def _decide(reviewer, button: str, why: str) -> None:
    reviewer.locator("tbody a").click()
    reviewer.get_by_label("Why? The requester will read it.").fill(why)
    reviewer.get_by_role("button", name=button).click()
    reviewer.get_by_text("Nothing waits for a decision.").wait_for()


def test_colors_follow_the_system_and_the_readers_choice_stays(new_page):
    page = new_page(color_scheme="dark")
    page.goto("/owners")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.locator("body").evaluate(f"() => {ground}")
    page.get_by_role("button", name="Use light colors").click()
    light = page.locator("body").evaluate(f"() => {ground}")
    assert light != dark
    page.goto("/verify")
    assert page.locator("body").evaluate(f"() => {ground}") == light


def test_the_whole_of_a_form_is_done_by_keyboard(page, texts):
    text = next(iter(texts.values()))
    page.goto("/owners")
    page.keyboard.press("Tab")
    assert page.evaluate_handle("() => document.activeElement").as_element().inner_text() == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.insert_text(text)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("the very text").wait_for()
