"""The entropy coder in C under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 1500


def find_library(compiler: str, name: str) -> str:
    """Where the compiler keeps a sanitizer's library; skips where it has none."""
    answer = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True)
    path = answer.stdout.strip()
    if not os.path.isabs(path):
        pytest.skip(f"{compiler} has no {name}")
    return path


@pytest.mark.slow
def test_no_argument_leads_outside_memory(tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or pytest.skip("gcc is not there")
    libraries = [find_library(compiler, name) for name in ("libasan.so", "libubsan.so")]
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").exists():
        pytest.skip(f"no Python.h in {include}")
    module = tmp_path / "_ans.so"
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    source = ROOT / "roi_anon_ros" / "codec" / "_ans.c"
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Wno-unused-parameter", "-Werror"]
    command = [compiler, "-O1", "-g", "-shared", "-fPIC", *sanitizers, *warnings]
    command += [f"-I{include}", str(source), "-o", str(module)]
    subprocess.run(command, check=True)
    # Python's own allocator would hide a small object's end from the sanitizer.
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0,allocator_may_return_null=1",
        "PYTHONMALLOC": "malloc",
    }
    fuzz = [sys.executable, "-S", str(ROOT / "test" / "fuzz_ans.py"), str(module), str(ROUNDS)]
    run = subprocess.run(fuzz, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-4000:]
    coded, left_over, refused = map(int, run.stdout.split())
    assert min(coded, left_over, refused) > ROUNDS / 10
