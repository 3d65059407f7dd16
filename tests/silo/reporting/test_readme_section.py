import pytest

from silo.errors import BadRequest
from silo.reporting.readme import is_one_of, section, unbacked, with_section
from silo.reporting.runs import read_runs

README = "# Title\n\n<!-- results -->\nold 9.99 bits per byte\n<!-- /results -->\n\nEnd.\n"


def test_the_section_is_replaced_and_the_rest_stays(record_run, results):
    record_run("eval ppl")
    runs, _ = read_runs([results])
    new = with_section(README, section(runs, "silo report x"))
    assert new.startswith("# Title\n\n<!-- results -->\nWritten by `silo report x`")
    assert new.endswith("<!-- /results -->\n\nEnd.\n")
    assert "9.99" not in new and "| mail | 1.500 (1.450 to 1.550) | **1.377** (1.327 to 1.427) |" in new
    assert with_section(new, section(runs, "silo report x")) == new


def test_another_run_gives_another_section(record_run, results, rows_of):
    record_run("eval ppl")
    before = section(read_runs([results])[0], "c")
    rows = rows_of("eval ppl")
    rows[0]["bits_per_byte"] += 0.001
    record_run("eval ppl", rows)
    assert section(read_runs([results])[0], "c") != before


@pytest.mark.parametrize("text", ["", "<!-- results -->", "<!-- /results --> <!-- results -->", README + README])
def test_a_readme_without_one_place_for_results_is_refused(text):
    with pytest.raises(BadRequest, match="needs one line"):
        with_section(text, "")


@pytest.mark.parametrize(
    "text",
    [
        "It gets 1.377 bits per byte on mail.",
        "1.38 bits/byte",
        "**1.4** bits per byte",
        "2.753 nats per token",
        "a gain of 0.25 nats",
        "perplexity of 2.828",
        "90 % of the gap",
        "85% of the gap",
        "SILO-6m has 5.8M parameters, k of 128, version 3.11.7, 150,000 bytes and 8.4M tokens.",
        "two bits per byte; `bits_per_byte`; a few hundred times over",
        "<!-- results -->7.77 bits per byte<!-- /results -->",
    ],
)
def test_what_a_run_gave_or_is_no_measurement_may_stand(record_run, results, text):
    record_run("eval ppl")
    record_run("eval gap")
    assert unbacked(text, read_runs([results])[0]) == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It gets 1.376 bits per byte.", "1.376 bits per byte"),
        ("1.9 bits/byte", "1.9 bits/byte"),
        ("**1.9** bits per byte", "1.9** bits per byte"),
        ("1.500 nats per token", "1.500 nats"),
        ("9.5-nat", "9.5-nat"),
        ("a perplexity of 3.14", "perplexity of 3.14"),
        ("Perplexity is 12,345.6", "Perplexity is 12,345.6"),
        ("3.14 perplexity", "3.14 perplexity"),
        ("1,700 tokens/s", "1,700 tokens/s"),
        ("1,700 tokens a second", "1,700 tokens a second"),
        ("1.6× faster", "1.6×"),
        ("1.6 times as fast", "1.6 times as"),
        ("a 3-fold gain", "3-fold"),
        ("91 % of the gap", "91 % of the gap"),
        ("wrapped 1.376\nbits per byte", "1.376 bits per byte"),
        ("```text\n1.376 bits per byte\n```", "1.376 bits per byte"),
        ("<!-- results --><!-- /results -->7.77 bits per byte", "7.77 bits per byte"),
        ("| 7.77 bits per byte |", "7.77 bits per byte"),
    ],
)
def test_a_measurement_that_no_run_gave_is_found(record_run, results, text, found):
    record_run("eval ppl")
    record_run("eval gap")
    assert unbacked(text, read_runs([results])[0]) == (found,)


@pytest.mark.parametrize(
    ("written", "values", "expected"),
    [
        ("1.38", [1.3766], True),
        ("1.377", [1.3766], True),
        ("1.376", [1.3766], False),
        ("1.4", [1.3766], True),
        ("0.25", [-0.25], True),
        ("1,700", [1700.4], True),
        ("1700", [1701.0], False),
        ("1", [], False),
    ],
)
def test_a_figure_is_a_recorded_value_rounded_as_it_is_written(written, values, expected):
    assert is_one_of(written, values) is expected
