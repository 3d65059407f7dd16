"""Exercises in mathematics with their answers, made by rule from a seed: text of our own, and so licensed as this
project is.

Pure; opens no file and knows no tokens. Document *n* of a seed is the same on every machine and however many are
asked for, so a larger collection contains a smaller one. Answers are exact: whole numbers, fractions and polynomials
with whole coefficients, never floats.

Why our own: the collection of the Open License Corpus was made by a program (Saxton et al. 2019) that current
releases of numpy and sympy no longer run. The form, a question and its answer a few hundred times over, is theirs.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from silo.documents import Document

LICENSE = "Apache-2.0"
OWNER = "The SILO project"
N_EXERCISES = 24
"""Exercises in a document, from easy to hard."""

Exercise = tuple[str, str]
"""A question and its answer."""


def exercises(n_documents: int, seed: int = 0, source: str = "mathematics") -> Iterator[Document]:
    """``n_documents`` documents, each of one subject, the subjects in turn."""
    for number in range(n_documents):
        subject, asked = exercises_of(number, seed)
        text = "\n".join(f"{asking(question)} {answer}\n" for question, answer in asked)
        facts = {"seed": seed, "subject": subject}
        yield Document(f"{subject}/{seed}-{number}", text, LICENSE, source, f"Exercises: {subject}", OWNER, "", facts)


def exercises_of(number: int, seed: int = 0) -> tuple[str, list[Exercise]]:
    """The subject of document ``number``, and its exercises from easy to hard."""
    subject = list(SUBJECTS)[number % len(SUBJECTS)]
    drawn = random.Random(f"{seed}/{number}/{subject}")
    return subject, [SUBJECTS[subject](drawn, 2 + 20 * step // N_EXERCISES) for step in range(N_EXERCISES)]


def asking(question: str) -> str:
    """How a document puts ``question``; a space and the answer follow."""
    return f"Question: {question}\nAnswer:"


def polynomial(coefficients: Sequence[int], variable: str = "x") -> str:
    """The polynomial with ``coefficients`` from the constant up, written from the highest power down."""
    terms: list[str] = []
    for power in reversed(range(len(coefficients))):
        if not (factor := coefficients[power]):
            continue
        unit = "" if not power else variable if power == 1 else f"{variable}**{power}"
        size = unit if abs(factor) == 1 and unit else f"{abs(factor)}{'*' if unit else ''}{unit}"
        sign = ("-" if factor < 0 else "") if not terms else (" - " if factor < 0 else " + ")
        terms.append(sign + size)
    return "".join(terms) or "0"


def _arithmetic(drawn: random.Random, level: int) -> Exercise:
    high = 10 ** (1 + level // 5)
    first, second = drawn.randint(-high, high), drawn.randint(1, high)
    kind = drawn.choice("+-*/")
    if kind == "/":
        return f"What is {first} divided by {second}?", str(Fraction(first, second))
    value = {"+": first + second, "-": first - second, "*": first * second}[kind]
    return f"Calculate {first} {kind} {second}.", str(value)


def _expressions(drawn: random.Random, level: int) -> Exercise:
    text = str(value := drawn.randint(1, 9))
    for _ in range(1 + level // 5):
        other = drawn.randint(2, 12)
        kind = drawn.choice("+-*")
        value = {"+": value + other, "-": value - other, "*": value * other}[kind]
        text = f"({text}) {kind} {other}" if " " in text else f"{text} {kind} {other}"
    return f"Evaluate {text}.", str(value)


def _comparison(drawn: random.Random, level: int) -> Exercise:
    numbers = [Fraction(drawn.randint(-9 * level, 9 * level), drawn.randint(1, level)) for _ in range(2 + level // 6)]
    if len(numbers) > 2:
        listed = ", ".join(map(str, numbers))
        return f"Sort {listed} from the smallest to the largest.", ", ".join(map(str, sorted(numbers)))
    first, second = numbers
    answer = "They are equal." if first == second else f"{max(numbers)}"
    return f"Which is greater: {first} or {second}?", answer


def _divisors(drawn: random.Random, level: int) -> Exercise:
    common = drawn.randint(1, 4 * level)
    first, second = common * drawn.randint(2, 5 * level), common * drawn.randint(2, 5 * level)
    if drawn.random() < 0.5:
        return f"What is the greatest common divisor of {first} and {second}?", str(math.gcd(first, second))
    return f"What is the least common multiple of {first} and {second}?", str(math.lcm(first, second))


def _primes(drawn: random.Random, level: int) -> Exercise:
    number = drawn.randint(2, 12 * level * level)
    factors = _factors(number)
    if drawn.random() < 0.4:
        return f"Is {number} a prime number?", "Yes" if len(factors) == 1 else f"No, {factors[0]} divides it."
    return f"List the prime factors of {number}.", ", ".join(map(str, factors))


def _linear_equation(drawn: random.Random, level: int) -> Exercise:
    root = drawn.randint(-level, level)
    left, right = drawn.sample([n for n in range(-level, level + 2) if n], 2)
    constant = drawn.randint(-9, 9)
    other = (left - right) * root + constant
    name = drawn.choice("abkmnxyz")
    return f"Solve {polynomial([constant, left], name)} = {polynomial([other, right], name)} for {name}.", str(root)


def _linear_system(drawn: random.Random, level: int) -> Exercise:
    x, y = drawn.randint(-level, level), drawn.randint(-level, level)
    a, b, c = (drawn.randint(1, level) for _ in range(3))
    d = drawn.randint(1, level)
    d += a * d == b * c
    first, second = (f"{p}*x + {q}*y = {p * x + q * y}" for p, q in ((a, b), (c, d)))
    return f"Solve {first} and {second} for x and y.", f"x = {x}, y = {y}"


def _polynomials(drawn: random.Random, level: int) -> Exercise:
    first, second = ([drawn.randint(-level, level) for _ in range(2 + level // 9)] for _ in range(2))
    kind = drawn.choice(("add", "expand", "evaluate", "derive"))
    if kind == "evaluate":
        at = drawn.randint(-5, 5)
        value = sum(factor * at**power for power, factor in enumerate(first))
        return f"Let f(x) = {polynomial(first)}. What is f({at})?", str(value)
    if kind == "derive":
        longer = [*first, drawn.randint(1, level)]
        derived = [power * factor for power, factor in enumerate(longer)][1:]
        return f"Differentiate {polynomial(longer)} with respect to x.", polynomial(derived)
    if kind == "add":
        total = [one + other for one, other in zip(first, second, strict=True)]
        return f"Simplify ({polynomial(first)}) + ({polynomial(second)}).", polynomial(total)
    return f"Expand ({polynomial(first)})*({polynomial(second)}).", polynomial(_product(first, second))


def _quadratics(drawn: random.Random, level: int) -> Exercise:
    roots = sorted(drawn.randint(-level, level) for _ in range(2))
    factor = drawn.randint(1, 1 + level // 4)
    coefficients = [factor]
    for root in roots:
        coefficients = _product(coefficients, [-root, 1])
    return f"Solve {polynomial(coefficients)} = 0 for x.", ", ".join(map(str, sorted(set(roots))))


def _sequences(drawn: random.Random, level: int) -> Exercise:
    rule = [drawn.randint(-level, level) for _ in range(2 + level // 12)]
    values = [sum(factor * n**power for power, factor in enumerate(rule)) for n in range(1, 7)]
    shown = ", ".join(map(str, values[:-1]))
    if drawn.random() < 0.5:
        return f"What comes next: {shown}?", str(values[-1])
    return f"What is the term number n of the sequence {shown}?", polynomial(rule, "n")


def _bases(drawn: random.Random, level: int) -> Exercise:
    number, base = drawn.randint(1, 40 * level), drawn.choice((2, 3, 5, 8, 16))
    if drawn.random() < 0.5:
        return f"Write {number} in base {base}.", _in_base(number, base)
    return f"What is {_in_base(number, base)}, in base {base}, in base 10?", str(number)


SUBJECTS: dict[str, Callable[[random.Random, int], Exercise]] = {
    "arithmetic": _arithmetic,
    "expressions": _expressions,
    "comparison": _comparison,
    "divisors": _divisors,
    "primes": _primes,
    "linear-equation": _linear_equation,
    "linear-system": _linear_system,
    "polynomials": _polynomials,
    "quadratics": _quadratics,
    "sequences": _sequences,
    "bases": _bases,
}
"""What there are exercises in. Another one changes which document of a seed is about what."""


def _product(first: Sequence[int], second: Sequence[int]) -> list[int]:
    product = [0] * (len(first) + len(second) - 1)
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            product[i + j] += one * other
    return product


def _factors(number: int) -> list[int]:
    """The prime factors, with repetition, from the smallest."""
    found, divisor = [], 2
    while divisor * divisor <= number:
        while not number % divisor:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return found + [number] * (number > 1)


def _in_base(number: int, base: int) -> str:
    digits = ""
    while number:
        digits = "0123456789abcdef"[number % base] + digits
        number //= base
    return digits
