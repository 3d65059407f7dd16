import inspect
import json
import random
from pydoc_data.topics import topics

import pytest

from training import cleaning
from training.cleaning import fault
from training.config import CleaningRecipe

RECIPE = CleaningRecipe()
DRAW = random.Random(1)
MATH = "\n\n".join(
    f"Let f(x) = {a}*x**2 - {b}*x + {a * b}. What is f({b})?\n{a * b * b - b * b + a * b}"
    for a, b in ((DRAW.randint(2, 99), DRAW.randint(2, 99)) for _ in range(40))
)
CHAT = "\n".join(f"<user{n % 7}> anyone knows why apt {topics['if'][n : n + 30].split()[0]}?" for n in range(60))
BYTES = bytes(DRAW.randrange(256) for _ in range(1200)).hex()
ENGLISH = "The parties agree that the notice was given in time, and that it was read by those whom it concerned. "


@pytest.mark.parametrize(
    "text",
    [
        *(pytest.param(topics[name], id=name) for name in sorted(topics) if len(topics[name]) > 400),
        pytest.param(inspect.getsource(cleaning), id="code"),
        pytest.param(inspect.getsource(json.decoder), id="library"),
        pytest.param(MATH, id="math"),
        pytest.param(CHAT, id="chat"),
        pytest.param("§ 1. Let α, β ∈ ℝ with ‖α‖ ≤ β; then ∫ α dβ = γ(α, β) + O(β²) for each α. " * 2, id="formulas"),
        pytest.param(
            "Señor Muñoz met Frau Müller in Łódź; they spoke of the façade of the hotel de la Paix.", id="names"
        ),
    ],
)
def test_ordinary_prose_code_and_mathematics_pass(text):
    assert fault(text, RECIPE) is None


GERMAN = """Die Brücke über den Fluss wurde im Jahr 1890 gebaut und ist seitdem nicht mehr verändert worden. Sie
verbindet das alte Viertel mit dem Hafen, und auch heute noch wird sie von vielen genutzt, die zur Arbeit gehen."""
FRENCH = """Le pont sur la rivière a été construit en 1890 et il n'a pas été modifié depuis. Il relie le vieux quartier
avec le port, et les habitants qui vont au travail dans cette partie de la ville sont nombreux à le prendre."""
SPANISH = """El puente sobre el río fue construido en 1890 y no se ha modificado desde entonces. Une el barrio viejo con
el puerto, y los vecinos que van al trabajo por las mañanas lo usan más que cualquier otra vía de la ciudad."""
ITALIAN = """Il ponte sul fiume è stato costruito nel 1890 e non è più cambiato. Collega il quartiere vecchio con il
porto, e anche oggi gli abitanti che vanno a lavorare nella zona della fabbrica sono molti; questo è il passaggio."""
DUTCH = """Het is een brug over de rivier die in 1890 werd gebouwd en sindsdien niet is veranderd. Hij ligt naar het
oude gedeelte van de stad, en ook nu zijn er veel mensen voor wie het een weg naar het werk wordt, dat spreekt."""
PORTUGUESE = """A ponte sobre o rio foi construída em 1890 e não mudou mais. Ela une o bairro velho ao porto, e também
hoje os moradores que vão pelo caminho mais curto não são poucos; uma ponte das mais usadas, isso é certo."""
RUSSIAN = "Мост через реку был построен в 1890 году и с тех пор не менялся, по нему ходят на работу."
CHINESE = (
    "这座桥建于一八九零年，此后没有改变。它把老城区和港口连接起来，今天仍有许多人每天走这座桥去上班，也有人在桥上散步看风景。"
    * 2
)


@pytest.mark.parametrize("text", [GERMAN, FRENCH, SPANISH, ITALIAN, DUTCH, PORTUGUESE, RUSSIAN, CHINESE])
def test_another_language_is_refused(text):
    assert fault(text, RECIPE) == "language: not English"
    assert fault(ENGLISH + text[:40] + ENGLISH, RECIPE) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Too short.", "quality: shorter than 64 characters"),
        (ENGLISH + "caf\ufffd " * 9, "quality: characters that a wrong encoding broke"),
        ("=-+*/" * 40 + " table", "quality: symbols in place of words"),
        (ENGLISH + BYTES, "quality: encoded data"),
        ("Home | About | Contact us today\n" * 9 + ENGLISH, "quality: lines that repeat"),
        ("we buy gold and silver at the best price in town " * 30, "quality: passages that repeat"),
    ],
)
def test_a_fault_has_a_name(text, reason):
    assert fault(text, RECIPE) == reason


@pytest.mark.parametrize(
    ("text", "recipe"),
    [
        ("Too short.", CleaningRecipe(min_characters=0)),
        (GERMAN, CleaningRecipe(max_foreign_share=1.0)),
        (RUSSIAN, CleaningRecipe(max_other_script_share=1.0)),
        ("=-+*/" * 40 + " table", CleaningRecipe(max_symbol_share=1.0, max_encoded_share=1.0)),
        ("we buy gold and silver at the best price in town " * 30, CleaningRecipe(max_repeated_run_share=1.0)),
    ],
)
def test_a_threshold_of_the_recipe_turns_a_filter_off(text, recipe):
    assert fault(text, RECIPE) is not None
    assert fault(text, recipe) is None
