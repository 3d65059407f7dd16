"""`make install` gets what was tried together."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PINS = {
    canonicalize_name(name): version
    for name, version in (line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
}


def test_every_requirement_that_make_installs_is_pinned_within_its_range() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for line in [
        *project["dependencies"],
        *extras["cpu"],
        *extras["passages"],
        *extras["portal"],
        *extras["browser"],
        *extras["test"],
    ]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)]), line


def test_torch_is_pinned_without_a_build_so_that_any_build_of_it_fits() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", PINS[canonicalize_name("torch")])


def test_there_is_one_pin_to_a_package_in_alphabetical_order() -> None:
    names = [line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().split()]
    assert len(names) == len(PINS)
    assert names == sorted(names, key=str.lower)
