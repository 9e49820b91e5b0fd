"""Everything that touches a store: one writer, one reader. Names are imported when first used.

from reprod.store import Store, runs
runs("cifar_ode")                                # a tidy frame: one row per seed
Store().get("RUN_ID").array("loss")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprod.store.reader import Record as Record
    from reprod.store.reader import Store as Store
    from reprod.store.reader import runs as runs

__all__ = ["Record", "Store", "runs"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from reprod.store import reader

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
