import pytest

from silo.licenses import RiskClass, license_table
from silo.notices import HEAD_CHARACTERS, TAIL_CHARACTERS, contradiction, notice_table, plain

FILLER = "The bridge was built by the town. " * 600


def test_every_row_names_a_license_of_the_table_and_compiles():
    assert len(notice_table()) >= 15
    assert {notice.license.lower() for notice in notice_table()} <= set(license_table())
    assert all(notice.hint in notice.pattern.pattern.lower() for notice in notice_table())


@pytest.mark.parametrize(
    "text",
    [
        "# under the terms of the\n#   GNU General Public License\n",
        "/* under the terms\n * of the GNU General\n * Public License */",
        "// under the terms of the GNU\n// General Public License",
        "<!-- under the terms of the GNU General\n     Public License -->",
        "under the terms of the G\u00adNU Gene\u200bral&nbsp;Public License",
        "dnl under the terms of the\ndnl GNU General Public License",
    ],
)
def test_comment_marks_line_breaks_and_invisible_characters_hide_no_notice(text):
    found = contradiction(text, RiskClass.SW)
    assert found is not None
    assert found.reason == "copyleft"


@pytest.mark.parametrize(("gap_before", "gap_after", "is_found"), [(0, 1, True), (1, 0, True), (1, 1, False)])
def test_a_notice_in_prose_counts_on_the_first_and_last_pages_only(gap_before, gap_after, is_found):
    assert len(FILLER) > HEAD_CHARACTERS + TAIL_CHARACTERS
    text = f"{FILLER * gap_before} This page is licensed under CC BY-SA 4.0. {FILLER * gap_after}"
    assert (contradiction(text, RiskClass.BY) is not None) == is_found


def test_the_words_of_a_grant_count_anywhere():
    grant = "under the terms of the GNU General Public License"
    assert contradiction(f"{FILLER}\n{grant}\n{FILLER}", RiskClass.SW) is not None
    assert contradiction(f"{FILLER}\nthe GNU General Public License was discussed\n{FILLER}", RiskClass.SW) is None


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("# SPDX-License-Identifier: GPL-2.0-only", True),
        ("/* SPDX-License-Identifier: GPL-2.0+ */", True),
        ("<!-- SPDX-License-Identifier: CC-BY-SA-4.0 -->", True),
        ("// SPDX-License-Identifier: MIT AND LicenseRef-Ours", True),
        ("# SPDX-License-Identifier: MIT", False),
        ("/* SPDX-License-Identifier: Apache-2.0 OR MIT */", False),
        ("Write SPDX-License-Identifier: GPL-2.0-only in the first line.", False),
    ],
)
def test_an_spdx_identifier_that_opens_a_line_is_read_by_the_license_table(line, is_found):
    assert (contradiction(f"{FILLER}\n{line}\n{FILLER}", RiskClass.SW) is not None) == is_found


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("license: CC-BY-NC-4.0", True),
        ('"license": "GPL-3.0",', True),
        ("__license__ = 'GPL'", True),
        ("license: MIT", False),
        ("license: see LICENSE", False),
        ("The driver's license: what it costs", False),
    ],
)
def test_a_license_field_on_the_first_page_counts(line, is_found):
    assert (contradiction(f"---\n{line}\n---\n{FILLER}", RiskClass.SW) is not None) == is_found


def test_a_permissive_grant_explains_that_all_rights_are_reserved():
    grant = "Redistribution and use in source and binary forms, with or without modification, are permitted."
    assert contradiction("Copyright 2001 Ada. All rights reserved.", RiskClass.SW) is not None
    assert contradiction(f"Copyright 2001 Ada. All rights reserved. {grant}", RiskClass.SW) is None


def test_a_claimed_copyright_contradicts_the_public_domain_alone():
    text = "Copyright 2011 Ada Quill\n\nThe bridge."
    assert contradiction(text, RiskClass.PD) is not None
    assert contradiction(text, RiskClass.BY) is None
    assert contradiction(f"{text} Copyright and related rights waived via CC0.", RiskClass.PD) is None


def test_an_edited_license_row_is_followed(monkeypatch):
    from silo import licenses, notices

    text = "This page is licensed under CC BY-SA 4.0."
    assert contradiction(text, RiskClass.BY) is not None
    table = {**license_table(), "cc-by-sa-4.0": licenses.Decision(RiskClass.BY, "as the paper reads it")}
    monkeypatch.setattr(notices, "classify", lambda name: licenses.classify(name, table))
    assert contradiction(text, RiskClass.BY) is None


def test_a_finding_quotes_the_words():
    found = contradiction(f"{FILLER}\n© Crown\n copyright 2006", RiskClass.PD)
    assert found is not None
    assert (found.name, found.quote) == ("Crown copyright", "© Crown copyright")
    assert plain("a\n * b") == "a b"
