"""The answers are checked by sympy, which knows nothing of how they were made."""

import hashlib
import itertools
import re
from collections.abc import Iterator

import pytest
import sympy
from sympy import Poly, Rational, symbols, sympify

from silo.licenses import RiskClass, classify
from silo.mathematics import N_EXERCISES, SUBJECTS, exercises, polynomial
from silo.notices import contradiction

X = symbols("x")
DOCUMENTS = list(exercises(6 * len(SUBJECTS), seed=1))


def asked(subject: str) -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        if document.metadata["subject"] == subject:
            yield from re.findall(r"Question: (.*)\nAnswer: (.*)\n", document.text)


def matched(subject: str, pattern: str) -> list[tuple[tuple[str, ...], str]]:
    found = [(m.groups(), answer) for question, answer in asked(subject) if (m := re.fullmatch(pattern, question))]
    assert len(found) > 5
    return found


def test_a_document_depends_on_its_seed_and_number_alone() -> None:
    assert list(exercises(3, seed=1)) == DOCUMENTS[:3]
    assert [d.text for d in exercises(3, seed=2)] != [d.text for d in DOCUMENTS[:3]]


def test_the_same_text_comes_out_on_every_machine() -> None:
    text = "".join(document.text for document in exercises(len(SUBJECTS)))
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "f911239d130805e67a890f6206c631c9cf24a7145d039f9948ca5e4e5f056806"
    )


def test_every_document_is_full_distinct_licensed_and_at_peace_with_its_label() -> None:
    for document in DOCUMENTS:
        assert document.text.count("Question: ") == document.text.count("Answer: ") == N_EXERCISES
        assert contradiction(document.text, RiskClass.SW) is None
    assert (
        len({document.text for document in DOCUMENTS}) == len({document.id for document in DOCUMENTS}) == len(DOCUMENTS)
    )
    assert {classify(document.license).risk for document in DOCUMENTS} == {RiskClass.SW}


def test_every_question_is_one_that_is_checked_here() -> None:
    known = {
        "arithmetic": "Calculate .*|What is .* divided by .*",
        "expressions": "Evaluate .*",
        "comparison": "Sort .*|Which is greater: .*",
        "divisors": "What is the (greatest common divisor|least common multiple) .*",
        "primes": "Is .* a prime number.|List the prime factors .*",
        "linear-equation": "Solve .*",
        "linear-system": "Solve .*",
        "polynomials": "Let f.*|Differentiate .*|Simplify .*|Expand .*",
        "quadratics": "Solve .* = 0 for x.",
        "sequences": "What comes next: .*|What is the term number n .*",
        "bases": "Write .*|What is .* in base 10.",
    }
    for subject in SUBJECTS:
        assert all(re.fullmatch(known[subject], question) for question, _ in asked(subject))


@pytest.mark.parametrize(
    ("subject", "pattern"),
    [
        ("arithmetic", r"Calculate (.*)\."),
        ("expressions", r"Evaluate (.*)\."),
        ("polynomials", r"Simplify (.*)\."),
        ("polynomials", r"Expand (.*)\."),
    ],
)
def test_values_are_what_sympy_computes(subject: str, pattern: str) -> None:
    for (expression,), answer in matched(subject, pattern):
        assert sympy.expand(sympify(expression)) == sympify(answer)


def test_quotients_are_exact() -> None:
    for (first, second), answer in matched("arithmetic", r"What is (.*) divided by (.*)\?"):
        assert Rational(first) / Rational(second) == Rational(answer)


def test_comparisons_and_orders() -> None:
    for (first, second), answer in matched("comparison", r"Which is greater: (.*) or (.*)\?"):
        one, other = Rational(first), Rational(second)
        assert (answer == "They are equal.") if one == other else Rational(answer) == max(one, other)
    for (listed,), answer in matched("comparison", r"Sort (.*) from the smallest to the largest\."):
        assert sorted(map(Rational, listed.split(", "))) == [Rational(number) for number in answer.split(", ")]


def test_divisors_multiples_and_primes() -> None:
    for (kind, first, second), answer in matched("divisors", r"What is the (\w+) common \w+ of (\d+) and (\d+)\?"):
        expected = sympy.gcd if kind == "greatest" else sympy.lcm
        assert expected(int(first), int(second)) == int(answer)
    for (number,), answer in matched("primes", r"Is (\d+) a prime number\?"):
        assert sympy.isprime(int(number)) == (answer == "Yes")
    for (number,), answer in matched("primes", r"List the prime factors of (\d+)\."):
        expected = [prime for prime, power in sorted(sympy.factorint(int(number)).items()) for _ in range(power)]
        assert expected == [int(prime) for prime in answer.split(", ")]


def test_equations_have_the_stated_solutions_and_no_other() -> None:
    for (left, right, name), answer in matched("linear-equation", r"Solve (.*) = (.*) for (\w)\."):
        assert sympy.solve(sympify(left) - sympify(right), symbols(name)) == [int(answer)]
    for (left,), answer in matched("quadratics", r"Solve (.*) = 0 for x\."):
        assert sorted(sympy.roots(Poly(sympify(left), X))) == [int(root) for root in answer.split(", ")]
    for (a, b, c, d), answer in matched("linear-system", r"Solve (.*) = (.*) and (.*) = (.*) for x and y\."):
        solved = sympy.solve([sympify(a) - int(b), sympify(c) - int(d)], symbols("x y"))
        assert answer == f"x = {solved[X]}, y = {solved[symbols('y')]}"


def test_functions_are_evaluated_and_differentiated() -> None:
    for (function, at), answer in matched("polynomials", r"Let f\(x\) = (.*)\. What is f\((.*)\)\?"):
        assert sympify(function).subs(X, int(at)) == int(answer)
    for (function,), answer in matched("polynomials", r"Differentiate (.*) with respect to x\."):
        assert sympy.diff(sympify(function), X) == sympify(answer)


def test_sequences_follow_from_what_is_shown() -> None:
    n = symbols("n")
    for (shown,), answer in matched("sequences", r"What is the term number n of the sequence (.*)\?"):
        values = [int(value) for value in shown.split(", ")]
        assert sympy.expand(sympy.interpolate(values, n)) == sympify(answer)
    for (shown,), answer in matched("sequences", r"What comes next: (.*)\?"):
        values = [int(value) for value in shown.split(", ")]
        assert sympy.interpolate(values, n).subs(n, 6) == int(answer)


def test_numbers_in_other_bases() -> None:
    for (number, base), answer in matched("bases", r"Write (\d+) in base (\d+)\."):
        assert int(answer, int(base)) == int(number)
    for (written, base), answer in matched("bases", r"What is (\w+), in base (\d+), in base 10\?"):
        assert int(written, int(base)) == int(answer)


@pytest.mark.parametrize("coefficients", list(itertools.product((-2, -1, 0, 1, 3), repeat=3)))
def test_a_polynomial_is_written_as_it_is_read(coefficients: tuple[int, ...]) -> None:
    text = polynomial(coefficients)
    assert sympify(text) == sum(factor * X**power for power, factor in enumerate(coefficients))
    assert not re.search(r"\b1\*|\+ -|- -|\*\*1\b", text)
