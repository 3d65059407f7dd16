"""The gate as a whole, on a planted set: what must not pass, and what must."""

import itertools
import os
import random
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from silo.corpora import read_documents
from silo.documents import Document
from silo.licenses import classify
from training.admission import decide
from training.config import AdmissionRecipe

ALL = AdmissionRecipe(("PD", "SW", "BY"))
NOUNS = "harbor mill engine orchard ledger bridge signal garden furnace river archive lantern valley kiln".split()
VERBS = "opens carries measures repairs records crosses supplies warms follows describes".split()
HOLDERS = ["Marlow & Finch Ltd", "The Daily Post", "Ada Quill", "Northern Press Association"]

GPL = """This program is free software: you can redistribute it and/or modify it under the terms of the GNU General
Public License as published by the Free Software Foundation, either version 3 of the License, or (at your option) any
later version. This program is distributed in the hope that it will be useful, but WITHOUT ANY WARRANTY."""
LGPL = """This library is free software; you can redistribute it and/or modify it under the terms of the GNU Lesser
General Public License as published by the Free Software Foundation; either version 2.1 of the License, or (at your
option) any later version."""
GPL2 = """This file may be used under the terms of the GNU General Public License version 2.0 as published by the Free
Software Foundation and appearing in the file LICENSE.GPL included in the packaging of this file."""
FORMS = {
    "SPDX header": [
        "SPDX-License-Identifier: GPL-2.0-only",
        "SPDX-License-Identifier: CC-BY-NC-4.0",
        "SPDX-License-Identifier: LicenseRef-Proprietary",
        "SPDX-License-Identifier: (MIT OR AGPL-3.0-or-later)",
    ],
    "GPL notice": [
        GPL,
        LGPL,
        GPL2,
        "Released under the GPL v3.",
        "License: GPLv2 or later",
        "This code is licensed under the GNU Affero General Public License, version 3.",
        "Distributed under the terms of the GNU General Public License v2",
    ],
    "all rights reserved": [
        "Copyright 2009 {who}. All rights reserved.",
        "© 2014 {who}. All Rights Reserved. Use of this site signifies your agreement to the terms of service.",
        "&copy; 2021 {who}. All&nbsp;rights&nbsp;reserved.",
        "© {who} 2003. Tous droits réservés.",
    ],
    "no reproduction": [
        "No part of this publication may be reproduced, stored in a retrieval system, or transmitted, in any form or "
        "by any means, without the prior permission of the publisher.",
        "This material may not be published, broadcast, rewritten, or redistributed.",
        "Reproduction in whole or in part without written permission is strictly prohibited.",
        "The content of this article may not be copied without the express written consent of {who}.",
    ],
    "non-commercial": [
        "This work is licensed under a Creative Commons Attribution-NonCommercial 4.0 International License.",
        "Text: CC BY-NC-SA 3.0, {who}",
        "See https://creativecommons.org/licenses/by-nc-nd/4.0/ for the terms.",
        "For personal, non-commercial use only.",
        "The corpus is made available for research purposes only.",
    ],
    "no derivatives": [
        "Licensed under Creative Commons Attribution-NoDerivatives 4.0.",
        "(c) {who}, CC-BY-ND 3.0",
    ],
    "share-alike": [
        "Text is available under the Creative Commons Attribution-ShareAlike License; additional terms may apply.",
        "This page is licensed under CC BY-SA 4.0.",
        "http://creativecommons.org/licenses/by-sa/3.0/",
    ],
    "Crown copyright": ["© Crown copyright 2006", "Crown Copyright. Published by Her Majesty's Stationery Office."],
    "free documentation license": [
        "Permission is granted to copy, distribute and/or modify this document under the terms of the GNU Free "
        "Documentation License, Version 1.2 or any later version published by the Free Software Foundation.",
    ],
    "other copyleft": [
        "This Source Code Form is subject to the terms of the Mozilla Public License, v. 2.0. If a copy of the MPL "
        "was not distributed with this file, You can obtain one at http://mozilla.org/MPL/2.0/.",
        "This program and the accompanying materials are made available under the terms of the Eclipse Public "
        "License v1.0 which accompanies this distribution.",
        "The contents of this file are subject to the terms of the Common Development and Distribution License.",
    ],
    "source available": [
        "Use of this software is governed by the Business Source License included in the LICENSE file.",
        "Licensed under the Server Side Public License, version 1.",
        "Licensed under the Elastic License 2.0; you may not provide the software to third parties as a service.",
    ],
    "license field": ["license: CC-BY-NC-SA-4.0", '__license__ = "GPL"', "License: GPL-3.0", "licence = CC BY-SA 4.0"],
    "confidential": [
        "This e-mail and any attachment is confidential and intended only for the use of the addressee.",
        "PROPRIETARY AND CONFIDENTIAL. Copying of this file, via any medium, is not allowed.",
    ],
    "by permission": ["Reprinted with permission from {who}.", "Excerpted by permission of {who}."],
    "training reserved": [
        "The publisher reserves this work from text and data mining under Article 4(3) of Directive (EU) 2019/790; "
        "text and data mining is expressly reserved.",
        "No part of this book may be used in any manner for the purpose of training artificial intelligence systems.",
    ],
}
LABELS = ["", "   ", "CC-BY-NC-4.0", "CC-BY-ND-4.0", "CC-BY-SA-4.0", "GPL-3.0-only", "MIT OR GPL-3.0-only", "MPL-2.0"]
LABELS += ["LicenseRef-Unknown", "All rights reserved", "MIT AND CC-BY-NC-4.0", "LicenseRef-PublicDomain-US-only"]


def prose(seed, n_sentences=40):
    """Made-up sentences, no two texts alike."""
    draw = random.Random(seed)
    return " ".join(
        f"The {draw.choice(NOUNS)} of the {draw.choice(NOUNS)} {draw.choice(VERBS)} the {draw.choice(NOUNS)} "
        f"in year {draw.randint(1700, 2020)}."
        for _ in range(n_sentences)
    )


def commented(notice, mark):
    return textwrap.fill(notice, 70, initial_indent=mark, subsequent_indent=mark, break_on_hyphens=False)


def planted():
    """Documents that must not pass: (form, document)."""
    number = itertools.count()
    for form, notices in FORMS.items():
        for notice, label in itertools.product(notices, ("MIT", "CC-BY-4.0", "LicenseRef-PublicDomain")):
            n = next(number)
            words = notice.format(who=HOLDERS[n % len(HOLDERS)])
            body = textwrap.fill(prose(n, 150), 90)
            yield form, Document(f"{n}/head", f"{words}\n\n{body}", label)
            if form != "license field":
                yield form, Document(f"{n}/tail", f"{body}\n\n{words}", label)
                yield form, Document(f"{n}/comment", f"{commented(words, '# ')}\nx = 1\n{body}", label)
                yield form, Document(f"{n}/c", f"/*\n{commented(words, ' * ')}\n */\n{body}", label)
    for n, notice in enumerate((GPL, LGPL, GPL2, "SPDX-License-Identifier: GPL-3.0-or-later")):
        middle = f"{prose(n, 200)}\n{commented(notice, '// ')}\n{prose(n + 1, 200)}"
        yield "second file inside the first", Document(f"middle/{n}", middle, "MIT")
    for n, label in enumerate(LABELS):
        yield "label", Document(f"label/{n}", prose(n), label)
    for n, line in enumerate(
        ("Copyright 2011 Ada Quill", "© 1999 The Daily Post", "Copyright (c) 2001-2009 Finch Ltd")
    ):
        yield "claimed public domain", Document(f"pd/{n}", f"{line}\n\n{prose(n)}", "CC0-1.0")


MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction."""
BSD = """Copyright (c) 2005, {who}
All rights reserved.

Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
following conditions are met."""
HEADERS = {
    "MIT": [f"Copyright (c) 2012 {{who}}\n{MIT}", "SPDX-License-Identifier: MIT", '__license__ = "MIT"'],
    "BSD-3-Clause": [BSD, "Copyright 2010 {who}. All rights reserved.\nUse of this source code is governed by a "
                     "BSD-style license that can be found in the LICENSE file."],
    "Apache-2.0": ["Copyright 2019 {who}. All Rights Reserved.\nLicensed under the Apache License, Version 2.0",
                   "SPDX-License-Identifier: Apache-2.0 OR MIT"],
    "PSF-2.0": ["Copyright (C) 2001 {who}. All rights reserved.\nLicensed to PSF under a Contributor Agreement."],
    "CC-BY-4.0": ["© 2016 {who} et al. This is an open access article distributed under the terms of the Creative "
                  "Commons Attribution License, which permits unrestricted use, distribution, and reproduction in any "
                  "medium, provided the original author and source are credited.",
                  "license: CC-BY-4.0"],
    "OGL-UK-3.0": ["© Crown copyright 2015. Contains public sector information licensed under the Open Government "
                   "Licence v3.0."],
    "CC0-1.0": ["Copyright and related rights waived via CC0.", "No copyright is claimed in works of the government."],
    "LicenseRef-PublicDomain": ["This document has been placed in the public domain.", "Printed in the year 1844."],
    "LicenseRef-USGov-PublicDomain": ["Section 106. The owner of copyright has the exclusive right to reproduce.", ""],
}  # fmt: skip
ASIDES = [
    "The parties dispute whether the GPL governs the second module, and the court need not decide it.",
    "A work under CC BY-NC may not be sold; one under CC BY may.",
    "The notice read 'All rights reserved' and was held to be without effect.",
    "Choose a license: GPL, MIT or Apache, and write it down.",
    "A confidential witness described the harbor.",
    "The Crown copyright of 1911 was discussed at length.",
    "",
]


def clean():
    """Documents that must pass: a permissive header, an aside about licenses in the middle of a long text."""
    for n, (label, aside) in enumerate(itertools.product(HEADERS, ASIDES * 9)):
        header = HEADERS[label][n % len(HEADERS[label])].format(who=HOLDERS[n % len(HOLDERS)])
        head = commented(header, "# ") if n % 3 == 0 and header else header
        yield Document(f"clean/{n}", f"{head}\n\n{prose(n, 100)} {aside} {prose(n + 7, 100)}", label)


def test_none_of_the_planted_documents_is_admitted():
    documents = list(planted())
    assert len(documents) >= 200
    assert len({form for form, _ in documents}) >= 10
    assert [(form, d.id, d.text[:90]) for form, d in documents if decide(d, ALL) is None] == []


def test_the_same_texts_without_their_notices_are_admitted():
    assert all(decide(Document("a", prose(n, 150), label), ALL) is None for n, label in enumerate(HEADERS))


def test_clean_documents_are_admitted():
    documents = list(clean())
    assert len(documents) >= 500
    refused = [(d.id, refusal.reason, refusal.detail) for d in documents if (refusal := decide(d, ALL))]
    assert len(refused) <= 0.01 * len(documents), refused


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif("SILO_CORPORA" not in os.environ, reason="SILO_CORPORA names no folder with low/*/train.jsonl.gz")
def test_licensed_corpora_are_admitted():
    counts = Counter(
        decide(document, ALL) is None
        for path in sorted(Path(os.environ["SILO_CORPORA"]).glob("low/*/train.jsonl.gz"))
        for document in read_documents(path)
        if classify(document.license).risk != "HIGH_RISK"
    )
    assert counts[True] >= 0.99 * counts.total() > 0
