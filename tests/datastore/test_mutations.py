"""Each rule that exactness and durability stand on is taken out, one at a time, and a named test must notice.

The packages and the tests are copied, one line of the copy is changed, and that one test is run there. Rows follow the
code: the old text must be in the file once.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("datastore", "silo", "training", "serving", "tests")


class Mutation(NamedTuple):
    """``old`` becomes ``new``, once, in ``file``; ``test`` must fail then."""

    file: str
    old: str
    new: str
    test: str


GHOST = "test_removal.py::test_a_store_after_a_removal_is_the_store_that_never_had_the_document"
SYNCED = "test_files.py::test_a_store_and_a_segment_are_on_the_disk_before_they_get_their_names"
ERASED = "test_powerloss.py::test_no_loss_of_power_takes_an_acknowledged_opt_out_back_or_what_was_erased_brings_again"
MUTATIONS = {
    "the sync of files": Mutation(
        "files.py", "sync_folder(path) if path.is_dir() else sync_file(path)", "path.is_dir()", SYNCED
    ),
    "the sync of folders": Mutation("files.py", "        os.fsync(descriptor)\n", "        pass\n", SYNCED),
    "the journal's sync": Mutation(
        "journal.py", "            os.fsync(file.fileno())\n", "            pass\n", f"{ERASED}[a sample]"
    ),
    "the catalog's sync": Mutation(
        "connections.py", '"synchronous=FULL"', '"synchronous=NORMAL"', f"{ERASED}[a sample]"
    ),
    "the sync of what compaction takes away": Mutation(
        "compaction.py", "        sync_folder(store.path / SEGMENTS)", "        ()", f"{ERASED}[a sample]"
    ),
    "the re-check of returned ids": Mutation(
        "keys.py",
        "(positions < 0) | ~live.flags[positions]",
        "positions < 0",
        "test_keys.py::test_a_selector_that_is_ignored_serves_nothing_removed",
    ),
    "the mask of id -1": Mutation(
        "snapshots.py",
        "    if missing.any():",
        "    if False:",
        GHOST,
    ),
    "the writer's look at opt-outs before it publishes": Mutation(
        "writer.py",
        "{name: why for name, why in reasons if why}",
        "{}",
        "test_add.py::test_a_text_opted_out_while_it_was_being_added_does_not_come_in",
    ),
    "the stable order of compaction": Mutation(
        "keys.py",
        "np.ascontiguousarray(moved[keep]), np.ascontiguousarray(codes[keep])",
        "np.ascontiguousarray(moved[keep][::-1]), np.ascontiguousarray(codes[keep][::-1])",
        GHOST,
    ),
    "fitting on licensed text alone": Mutation(
        "writer.py", "if facts.risk == HIGH_RISK:", "if False:", "test_add.py::test_no_store_is_made_with"
    ),
    "the selector inside the search": Mutation(
        "keys.py",
        "faiss.IDSelectorBitmap(live.bits)",
        "faiss.IDSelectorAll()",
        "test_keys.py::test_the_nearest_live_entry_is_found_behind_any_number_of_removed_ones",
    ),
    "the barrier of an acceptance": Mutation(
        "optout.py",
        "    store.readers.wait(patience)\n    return receipt",
        "    return receipt",
        "test_readers.py::test_an_opt_out_waits_for_another_process_s_step",
    ),
    "the check of the catalog's pages": Mutation(
        "catalog.py",
        "            self._check_pages(connection)\n",
        "",
        "test_corruption.py::test_no_bit_that_flips_in_the_catalog_brings_a_removed_document_back[250]",
    ),
}


@pytest.fixture
def copied(tmp_path):
    for name in COPIED:
        unwanted = shutil.ignore_patterns("__pycache__", "benchmarks", "golden", "journeys")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(folder: Path, *tests: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n", "0"]
    command += [f"tests/datastore/{test}" for test in tests]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


SMOKE = "the re-check of returned ids"
ROWS = [
    pytest.param(mutation, marks=[] if name == SMOKE else [pytest.mark.slow], id=name)
    for name, mutation in MUTATIONS.items()
]


def test_every_row_names_a_line_and_a_test_that_are_there():
    for name, mutation in MUTATIONS.items():
        assert (ROOT / "datastore" / mutation.file).read_text().count(mutation.old) == 1, f"{name}: {mutation.old!r}"
        file, _, test = mutation.test.partition("::")
        assert f"def {test.partition('[')[0]}(" in (ROOT / "tests" / "datastore" / file).read_text(), f"{name}: {test}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", ROWS)
def test_it_is_noticed_when_it_is_taken_out(copied, mutation):
    path = copied / "datastore" / mutation.file
    path.write_text(path.read_text().replace(mutation.old, mutation.new))
    told = run(copied, mutation.test)
    assert told.returncode == 1 and "1 failed" in told.stdout, told.stdout[-2000:] + told.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_with_nothing_taken_out_all_of_these_tests_pass(copied):
    """The control."""
    told = run(copied, *sorted({mutation.test for mutation in MUTATIONS.values()}))
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-2000:]
