"""Pages: blocks written by the archive, and prose whose numbers stand in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprod.errors import BadInput
from reprod.figures import pages
from reprod.store.archive.store import ArchiveStore
from tests.core.test_archive import WALKS, archive, folder, made  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
GENERATED = [page for page in pages.all_pages(ROOT) if pages.BLOCK.search(page.read_text(encoding="utf-8"))]


@pytest.fixture
def checkout(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    monkeypatch.setattr(pages, "figures", lambda *_: [WALKS])
    root = tmp_path / "checkout"
    (root / "docs").mkdir(parents=True)
    (root / "docs" / "toys.md").write_text(
        "# Toys\n\n<!-- reprod: figure toys.walks -->\n<!-- /reprod -->\n\n<!-- reprod: claims toys -->\nold\n"
        "<!-- /reprod -->\n\nThe rest.\n<!-- reprod: runs toys -->\n<!-- /reprod -->\n"
    )
    return root


def test_blocks_are_written_and_then_stay(checkout: Path):
    assert pages.BLOCK.search("<!-- reprod: runs -->\n<!-- /reprod -->")
    store = ArchiveStore()
    changed = list(pages.update(checkout, store, check=True))
    assert changed == ["docs/toys.md", "docs/images/toys.walks.png"]
    assert not (checkout / "docs/images").exists()
    list(pages.update(checkout, store, check=False))
    text = (checkout / "docs/toys.md").read_text()
    assert "| this test | smoke | it ends somewhere |" in text and "old" not in text
    assert "(images/toys.walks.png)" in text and "`toys.walks` | smoke | 2 |" in text and "The rest." in text
    assert list(pages.update(checkout, store, check=True)) == []
    (checkout / "docs/toys.md").write_text(text.replace("it ends somewhere", "it ends at 1e9"))
    assert list(pages.update(checkout, store, check=True)) == ["docs/toys.md"]


def test_a_picture_of_other_runs_is_noticed(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    store = ArchiveStore()
    list(pages.update(checkout, store, check=False))
    drawn = WALKS.what.draw

    def other(runs):
        drawing = drawn(runs)
        drawing.table["end"] += 1e-9
        return drawing

    monkeypatch.setattr(WALKS.what, "draw", other)
    assert list(pages.update(checkout, store, check=True)) == ["docs/images/toys.walks.png"]


def test_a_block_that_is_not_known(checkout: Path):
    page = checkout / "docs" / "toys.md"
    page.write_text("<!-- reprod: clams toys -->\n<!-- /reprod -->\n")
    with pytest.raises(BadInput, match=r"toys.md: .*clams toys.*expected one of claims"):
        list(pages.update(checkout, ArchiveStore(), check=True))


@pytest.mark.parametrize(("prose", "stray"), [
    ("ends at 0.82, not .90", [".90"]), ("0.82", []), (".82", []), ("82 %", ["82"]), ("-1.5", ["-1.5"]), ("17.7", []),
    ("`0.99` and [this](x-0.98.png) and arXiv 2110.05960, on 2026.11.25, version 3.17.2", []), ("12 networks", []),
])  # fmt: skip
def test_numbers_of_the_prose_stand_in_a_block(prose: str, stray: list[str]):
    blocks = "<!-- reprod: runs -->\n| 0.82 |\n<!-- /reprod -->\n<!-- measured: x -->\n17.7 ms\n<!-- /measured -->\n"
    assert pages.stray_numbers(f"{blocks}{prose}") == stray


@pytest.mark.parametrize("page", GENERATED, ids=lambda page: page.stem)
def test_no_number_of_ours_is_typed_by_hand(page: Path):
    assert pages.stray_numbers(page.read_text(encoding="utf-8")) == []
