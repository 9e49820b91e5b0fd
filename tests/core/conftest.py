from __future__ import annotations

import pytest

from reprod import registry


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, store_uri: str):
    """The toy experiment, registered."""
    from tests.core import toy

    monkeypatch.setitem(registry.EXPERIMENTS, "toy", ("neural_ode", "Toy", "walk"))
    real_class, real_function = registry.config_class, registry.function
    monkeypatch.setattr(registry, "config_class", lambda n: toy.Toy if n == "toy" else real_class(n))
    monkeypatch.setattr(registry, "function", lambda n: toy.walk if n == "toy" else real_function(n))
    return toy
