"""The playground in a browser: what streams in, what is shown of it, and what an opt-out changes."""

import json
import re

import pytest

SHARP = "a-knn-weight=0.9&a-knn-temperature=0.1"
PROMPT = "The objects in this"


def _write(page, fragment: str = "", prompt: str = PROMPT) -> None:
    page.goto("/playground#" + fragment)
    page.get_by_label("Begin a text").fill(prompt)
    page.keyboard.press("Control+Enter")
    page.locator("[data-status]", has_text=re.compile("^Done")).wait_for()


def _lane(page, name: str):
    return page.locator(f"[data-lane={name}]")


def _shares(page) -> list[float]:
    shares = (
        _lane(page, "a")
        .locator(".token")
        .evaluate_all("all => all.map((one) => one.style.getPropertyValue('--share'))")
    )
    return [float(share) for share in shares]


def test_an_answer_streams_in_as_the_api_makes_it(page, url, picture):
    with page.expect_response("**/v1/completions") as answered:
        _write(page, SHARP)
    asked = json.loads(answered.value.request.post_data)
    assert asked["knn"]["weight"] == 0.9
    assert asked["stream"] is True
    again = page.request.post(answered.value.url, data=asked)  # a browser does not keep the body of a stream
    events = [json.loads(line[6:]) for line in again.text().split("\n\n") if line.startswith("data: {")]
    choices = [event["choices"][0] for event in events]
    shown = _lane(page, "a").locator(".token").evaluate_all("all => all.map((one) => one.token.text).join('')")
    assert shown == "".join(choice["text"] for choice in choices)
    masses = [mass for choice in choices for mass in choice["datastore_mass"]]
    kept = _lane(page, "a").locator(".token").evaluate_all("all => all.map((one) => one.token.share)")
    assert kept
    assert all(mass in masses for mass in kept), "as they are, to the bit"
    assert max(_shares(page)) > 0.5
    picture(page, "playground-answer")


def test_pointing_at_a_sentence_shows_its_sources_with_owner_license_and_mass(page, picture):
    _write(page, SHARP)
    _lane(page, "a").locator(".sentence").first.hover()
    card = page.locator(".source").first
    assert "LicenseRef-Proprietary" in card.inner_text()
    assert "author of " in card.inner_text()
    assert re.search(r"\d %", card.inner_text())
    assert "The LM itself" in page.locator(".source").last.inner_text()
    assert "Probability" in page.locator("[data-inspect]").inner_text()
    picture(page, "playground-sources")


def _serve_sentences(page, *sentences: str) -> None:
    """Answer with these sentences, a token each, every one with a source of its own."""
    events, start = [], 0
    for sentence in sentences:
        marks = {
            "tokens": [sentence],
            "token_logprobs": [-0.1],
            "top_logprobs": [{sentence: -0.1}],
            "text_offset": [start],
        }
        source = {
            "document_id": f"of {sentence}",
            "title": f"of {sentence}",
            "mass": 0.5,
            "removed": False,
            "text": "t",
        }
        told = {"start_index": start, "end_index": start + len(sentence), "parametric_mass": 0.5, "sources": [source]}
        choice = {"text": sentence, "logprobs": marks, "annotations": [told], "datastore_mass": [0.5]}
        events.append(json.dumps({"choices": [choice], "datastore_version": 1}))
        start += len(sentence)
    body = "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])
    page.route("**/v1/completions", lambda route: route.fulfill(body=body, content_type="text/event-stream"))


def test_characters_outside_the_first_plane_are_counted_as_the_api_counts_them(page):
    _serve_sentences(page, " 🜛🜛 one.", " Two é́ 𝔘.", " Three.")
    _write(page)
    assert _lane(page, "a").locator(".sentence").all_inner_texts() == [" 🜛🜛 one.", " Two é́ 𝔘.", " Three."]


def test_sentences_are_walked_by_keyboard_and_kept(page):
    _serve_sentences(page, " One.", " Two.", " Three.")
    _write(page, SHARP)
    sentences = _lane(page, "a").locator(".sentence")
    n = sentences.count()
    assert n > 1
    sentences.first.focus()
    page.keyboard.press("ArrowRight")
    assert sentences.nth(1).evaluate("one => one === document.activeElement")
    page.keyboard.press("Enter")
    assert sentences.nth(1).get_attribute("aria-pressed") == "true"
    picked = page.locator(".picked").inner_text()
    sentences.first.hover()
    assert page.locator(".picked").inner_text() == picked, "what was kept stays"
    page.keyboard.press("End")
    assert sentences.nth(n - 1).evaluate("one => one === document.activeElement")
    assert sentences.evaluate_all("all => all.filter((one) => one.tabIndex === 0).length") == 1
    page.keyboard.press("ArrowDown")
    assert "This token" in page.locator("[data-inspect]").inner_text()
    page.keyboard.press("Escape")
    assert page.locator(".picked").count() == 0


def test_two_answers_side_by_side_differ_by_their_components(page, picture):
    _write(page, SHARP + "&compare=1&b-knn-weight=off")
    assert "The LM alone" in _lane(page, "b").locator("h2").inner_text()
    assert "0 % from the datastore" in _lane(page, "b").locator("[data-summary]").inner_text()
    assert not _lane(page, "a").locator("[data-summary]").inner_text().startswith("0 %")
    boxes = [_lane(page, name).bounding_box() for name in "ab"]
    assert boxes[0]["y"] == boxes[1]["y"]
    picture(page, "playground-compare")


def test_switching_the_component_off_asks_for_the_lm_alone(page):
    page.goto("/playground")
    _lane(page, "a").get_by_text("Nearest contexts", exact=True).click()
    page.get_by_label("Begin a text").fill(PROMPT)
    with page.expect_request("**/v1/completions") as asked:
        page.get_by_role("button", name="Write").click()
    assert json.loads(asked.value.post_data)["knn"]["weight"] == 0
    page.locator("[data-status]", has_text="Done").wait_for()


def test_opting_a_document_out_changes_the_answer(page, store, picture):
    _write(page, SHARP)
    before = _lane(page, "a").locator(".answer .answer-text").inner_text()
    _lane(page, "a").locator(".sentence").first.click()
    page.get_by_role("button", name=re.compile("^Take it out… .")).first.click()
    dialog = page.get_by_role("dialog")
    picture(page, "playground-leave")
    dialog.get_by_role("button", name="Cancel").click()
    assert list(store.documents("removed")) == []
    page.get_by_role("button", name=re.compile("^Take it out… .")).first.click()
    dialog.get_by_role("button", name="Take it out").click()
    page.locator("[data-status]", has_text=re.compile("^It is out")).wait_for()
    assert [one.state for one in store.documents()].count("removed") == 1
    gone = next(one.facts.id for one in store.documents("removed"))
    shown = _lane(page, "a").locator("[data-before]")
    assert before.removeprefix(PROMPT) in shown.inner_text()
    with page.expect_download() as started:
        shown.get_by_role("link", name="Download the receipt").click()
    assert json.loads(started.value.path().read_text())["document"] == gone
    _lane(page, "a").locator(".answer .sentence").first.click()
    assert gone.split("/")[1] not in page.locator("[data-sources-body]").inner_text().split("\n")
    picture(page, "playground-after")


def test_a_running_answer_is_stopped(page):
    page.goto("/playground#shared-max_tokens=90")
    page.get_by_label("Begin a text").fill("a")
    page.get_by_role("button", name="Write").click()
    page.locator(".token").first.wait_for()
    page.keyboard.press("Escape")
    page.locator("[data-status]", has_text=re.compile("Stopped|Done")).wait_for()
    assert page.get_by_role("button", name="Write").is_enabled()


def test_what_the_server_refuses_is_told_in_its_words(new_page, url):
    page = new_page()
    page.goto("/playground")
    page.get_by_label("Begin a text").fill("word " * 400)
    page.get_by_role("button", name="Write").click()
    page.locator(".status.is-bad").wait_for()
    assert "tokens" in page.locator(".status").inner_text()


def test_the_state_of_the_form_is_in_the_link_and_never_sent(page):
    sent = []
    page.on("request", lambda request: sent.append(request.url))
    _write(page, SHARP)
    assert "prompt=The+objects+in+this" in page.url
    assert not any("objects" in address for address in sent)
    again = page.url
    page.goto("about:blank")
    page.goto(again)
    assert page.get_by_label("Begin a text").input_value() == PROMPT
    assert _lane(page, "a").get_by_label("Share of nearest contexts").input_value() == "0.9"


@pytest.mark.parametrize("evil", ["<img src=x onerror=alert(1)>", "</span><script>alert(1)</script>"])
def test_markup_in_prompts_and_sources_is_text(page, evil):
    source = {
        "document_id": evil,
        "title": evil,
        "url": "javascript:alert(1)",
        "license": evil,
        "owner": evil,
        "source": evil,
    }
    source |= {"sentence": 0, "text": evil, "mass": 0.75, "removed": False}
    annotation = {"start_index": 0, "end_index": len(evil), "parametric_mass": 0.25, "sources": [source]}
    marks = {"tokens": [evil], "token_logprobs": [-0.1], "top_logprobs": [{evil: -0.1}], "text_offset": [0]}
    choice = {"index": 0, "text": evil, "logprobs": marks, "finish_reason": "stop", "annotations": [annotation]}
    event = json.dumps({"choices": [choice], "datastore_version": 1})
    body = f"data: {event}\n\ndata: [DONE]\n\n"
    page.route("**/v1/completions", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
    _write(page, prompt=evil)
    _lane(page, "a").locator(".sentence").first.click()
    page.get_by_role("button", name=re.compile("^Take it out… .")).click()
    assert page.locator("main img, main script, dialog img, [href^=javascript]").count() == 0
    assert page.locator(".source-text").inner_text() == evil
    assert page.locator("[data-leave-name]").inner_text() == evil


def test_a_phone_shows_the_sources_in_a_sheet_and_nothing_overflows(new_page, picture):
    page = new_page(viewport={"width": 390, "height": 844}, has_touch=True, color_scheme="dark")
    _write(page, SHARP + "&compare=1")
    _lane(page, "a").locator(".sentence").first.tap()
    assert page.locator(".sources").evaluate("one => getComputedStyle(one).position") == "fixed"
    assert page.locator("html").evaluate("one => one.scrollWidth <= one.clientWidth")
    picture(page, "playground-phone")
    page.get_by_role("button", name="Close the sources").tap()
    assert page.locator(".sources.open").count() == 0


def test_who_wants_less_motion_gets_none(new_page):
    page = new_page(reduced_motion="reduce")
    _write(page)
    durations = page.locator(".token").first.evaluate("one => getComputedStyle(one).animationDuration")
    assert durations in ("0.001s", "1e-3s", "1ms")
