"""Compiled kernels give the same bits in the process that compiles them and in those that load them from a cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reprod import papers

DIGESTS = """
import hashlib, sys
from reprod import papers
from reprod.config import resolve
from reprod.run import Run

for name in sys.argv[1:]:
    config = resolve(papers.config_class(name), {"scale": "smoke", "device": "cpu", "seeds": "0,1"})
    run = Run(config)
    papers.function(name)(config, run)
    for child in run.children():
        for key, array in sorted(child.arrays.items()):
            if not key.startswith("timing"):
                print(name, key, hashlib.sha256(array.values.tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["sphere_ode", "geomnist_dynamics", "resnet_convergence", "iris_training", "dln_llc"])
def test_compiled_and_cached_kernels_have_equal_bits(tmp_path: Path, name: str):
    """Compiled here; loaded; and partly loaded, as where several processes compile at once."""
    assert name in papers.experiments()
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    found = []
    for _ in range(3):
        command = [sys.executable, "-c", DIGESTS, name]
        found.append(subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)
        if len(found) == 2:
            for index in sorted(tmp_path.rglob("*.nbi"))[::2]:
                index.unlink()
    assert found[0]
    assert found[0] == found[1] == found[2]
