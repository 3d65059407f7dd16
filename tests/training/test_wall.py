import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_import_contracts_hold():
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_training_loads_nothing_that_searches_or_serves():
    code = """
import sys
import training.commands, training.pipeline, training.progress
print(sorted({name.split(".")[0] for name in sys.modules} & {"datastore", "faiss", "flask", "serving"}))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_commands_load_nothing_heavy_before_they_run():
    code = """
import sys
import training.commands, silo.corpus_command
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "transformers", "datasets", "numpy"}))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
