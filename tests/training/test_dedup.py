import random

import pytest

from training.config import DeduplicationRecipe
from training.dedup import Duplicates

RECIPE = DeduplicationRecipe()
WORDS = [f"word{n}" for n in range(3000)]


def text(seed, n_words=300):
    draw = random.Random(seed)
    return [draw.choice(WORDS) for _ in range(n_words)]


def edited(words, share, seed):
    """``words`` with that share of them replaced."""
    draw = random.Random(seed)
    changed = list(words)
    for index in draw.sample(range(len(words)), max(1, round(share * len(words)))):
        changed[index] = f"other{draw.random()}"
    return changed


def jaccard(one, other):
    runs = [{tuple(words[i : i + 5]) for i in range(len(words) - 4)} for words in (one, other)]
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


def test_near_copies_are_found_and_nothing_else_is():
    originals = {f"original/{n}": text(n) for n in range(400)}
    planted: dict[str, list[str]] = {}
    for n, words in enumerate(originals.values()):
        planted[f"edited/{n}"] = edited(words, 0.01, n)
        planted[f"shortened/{n}"] = words[: int(0.92 * len(words))]
        planted[f"extended/{n}"] = [*text(-n - 1, 20), *words]
        planted[f"rewritten/{n}"] = edited(words, 0.08, n)
        planted[f"half/{n}"] = [*words[:150], *text(10_000 + n, 150)]
    similar = {name: jaccard(originals[f"original/{name.split('/')[1]}"], words) for name, words in planted.items()}
    expected = {name for name, similarity in similar.items() if similarity >= 0.85}
    different = {name for name, similarity in similar.items() if similarity < 0.6}
    assert len(expected) >= 1000 and len(different) >= 500
    duplicates = Duplicates(RECIPE)
    assert not any(duplicates.add(name, " ".join(words)) for name, words in originals.items())
    found = {}
    for name in sorted(expected | different):
        if copy := duplicates.add(name, " ".join(planted[name])):
            found[name] = copy
    recall = len(found.keys() & expected) / len(expected)
    precision = len(found.keys() & expected) / len(found)
    print(f"recall {recall:.4f} of {len(expected)}, precision {precision:.4f} beside {len(different)} others")
    assert recall >= 0.98
    assert precision >= 0.99
    right = [copy == f"nearly original/{name.split('/')[1]}" for name, copy in found.items()]
    assert sum(right) >= 0.98 * len(right)


@pytest.mark.parametrize(
    "copy", ["A short text.", "  A short\n\ntext.\n", "A\tshort text."], ids=["same", "line breaks", "tab"]
)
def test_white_space_makes_no_difference_to_a_copy(copy):
    duplicates = Duplicates(RECIPE)
    assert duplicates.add("a", "A short text.") is None
    assert duplicates.add("b", copy) == "a copy of a"


def test_short_texts_are_compared_exactly_only():
    duplicates = Duplicates(RECIPE)
    assert duplicates.add("a", "What is 3 - 4? It is minus one.") is None
    assert duplicates.add("b", "What is 3 + 4? It is minus one.") is None


def test_the_first_in_order_stays_and_a_second_run_decides_the_same():
    texts = [" ".join(words) for n in range(30) for words in (text(n), edited(text(n), 0.01, n))]

    def decisions(order):
        duplicates = Duplicates(RECIPE)
        return [duplicates.add(str(n), texts[n]) for n in order]

    forward = decisions(range(60))
    assert forward == decisions(range(60))
    assert forward[::2] == [None] * 30
    assert forward[1::2] == [f"nearly {2 * n}" for n in range(30)]
    assert decisions(range(59, -1, -1))[1::2] == [f"nearly {2 * n + 1}" for n in range(29, -1, -1)]
