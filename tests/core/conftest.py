from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reprod import papers


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, store_uri: str) -> Iterator[Any]:
    """The toy experiment, of a paper that is installed beside reprod."""
    from tests.core import toy

    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(toy.INSTALLED))
        papers.forget()
        yield toy
    papers.forget()
