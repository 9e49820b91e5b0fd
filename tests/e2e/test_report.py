"""The static site: complete, self-contained, and usable in a real browser."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reprod import cite, cli, papers
from reprod.figures import report
from reprod.figures.checklist import text as checklist
from reprod.figures.claims import NOT_COMPARABLE, UNDECIDED
from reprod.figures.figure import figures
from reprod.jobs import launch
from reprod.store import Store
from tests.e2e.conftest import chromium

in_group = pytest.mark.parametrize(
    "paper", [pytest.param("residual_limit", marks=pytest.mark.xdist_group("residual_limit"))]
)
SITES: dict[str, tuple[Path, report.Paper]] = {}


@pytest.fixture
def built(paper: str, smoke_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, report.Paper]:
    """The site of one paper's smoke store, and what is on it."""
    if paper not in SITES:
        folder = tmp_path_factory.mktemp("report") / "site"
        with pytest.MonkeyPatch.context() as quick:  # sixty panels take as long as all other figures
            quick.setattr(
                report, "figures", lambda paper: [f for f in figures(paper) if f.id != "residual_limit.fig2_entries"]
            )
            (page,) = report.build(smoke_store, folder, paper=paper)
        SITES[paper] = folder, page
    return SITES[paper]


@pytest.fixture
def site(built: tuple[Path, report.Paper]) -> Path:
    return built[0]


class Page(HTMLParser):
    """The links, images, ids and text of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.images, self.ids, self.loaded, self.buttons = [], [], set(), [], 0
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list) -> None:
        given = dict(attributes)
        self.ids |= {given["id"]} if "id" in given else set()
        if tag == "a":
            self.links.append(given["href"])
        if tag == "img":
            self.images.append(given)
        if tag in ("img", "script", "link"):
            self.loaded.append(given.get("src") or given["href"])


@in_group
def test_every_link_image_and_anchor_resolves_without_a_network(site: Path, paper: str):
    pages = {path.name: Page(path) for path in site.glob("*.html")}
    assert pages.keys() == {"index.html", "claims.html", f"{paper}.html", f"{paper}-runs.html"}
    for name, page in pages.items():
        for target in [*page.links, *page.loaded]:
            assert not re.match(r"(https?:)?//", target), f"{name} reaches out to {target}"
            if target == "data:,":
                continue
            file, _, anchor = target.partition("#")
            assert not file or (site / file).exists(), f"{name} links to {target}"
            if anchor and (file or name) in pages:
                assert anchor in pages[file or name].ids, f"{name} links to {target}"
        for image in page.images:
            assert image["alt"] or name == "index.html", f"{name}: {image['src']} has no alternative text"
    for file in ("style.css", "script.js"):
        assert "//" not in re.sub(r"/\*.*?\*/|//  .*", "", (site / file).read_text()).replace("// on a phone", "")


@in_group
def test_every_figure_and_claim_is_there(built: tuple[Path, report.Paper], paper: str):
    folder, page = built
    figures_page, claims_page, runs_page = (
        (folder / name).read_text() for name in (f"{paper}.html", "claims.html", f"{paper}-runs.html")
    )
    assert [shown.figure.id for shown in page.rebuilt] == [
        each.id for each in figures(paper) if each.id != "residual_limit.fig2_entries"
    ]
    for shown in page.shown:
        name = shown.figure.id
        assert f'id="{name}"' in figures_page
        assert f"reprod reproduce --figure {name} --scale smoke" in figures_page
        assert (folder / shown.image).exists()
        assert len(shown.alt) > 20
        for claim in shown.claims:
            assert f'id="claim-{report.anchor(name, claim.name)}"' in figures_page
            assert f"{paper}.html#claim-{report.anchor(name, claim.name)}" in claims_page
        for record in shown.runs.records:
            assert f'id="run-{record.id}"' in runs_page
    assert page.verdicts.keys() <= {UNDECIDED, NOT_COMPARABLE}, "seconds of training decide nothing"
    assert sum(page.verdicts.values()) == sum(len(shown.claims) for shown in page.shown)


def test_what_lacks_runs_is_listed_with_its_command_and_a_foreign_folder_is_kept(store_uri: str, tmp_path: Path):
    (paper,) = report.build(Store(), tmp_path / "site", paper="neural_ode")
    assert not paper.rebuilt
    text = (tmp_path / "site" / "neural_ode.html").read_text()
    assert "reprod reproduce --figure neural_ode.fig4a --scale small" in text
    (fig4a,) = figures(id="neural_ode.fig4a")
    needed = {scale: sum(len(c.seeds) for c in fig4a.runs(scale)) for scale in fig4a.scales}
    assert ", ".join(f"{scale} 0 of {count}" for scale, count in needed.items()) in text
    assert paper.verdicts.keys() == {UNDECIDED}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    from reprod.errors import BadInput

    with pytest.raises(BadInput, match="not empty"):
        report.build(Store(), tmp_path / "mine", paper="neural_ode")


@in_group
def test_the_largest_complete_scale_is_shown(smoke_store: Store, paper: str):
    each = next(f for f in figures(paper) if f.runs("smoke"))
    assert report.largest_scale(each, smoke_store, {}) == "smoke"
    theory = next(f for f in figures() if not f.runs("paper"))
    assert report.largest_scale(theory, smoke_store, {}) == "paper"


@in_group
def test_a_logged_figure_is_one_run_that_names_its_runs(smoke_store: Store, paper: str, tmp_path: Path, monkeypatch):
    shutil.copy(Path(smoke_store.uri.removeprefix("sqlite:///")), tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    words = ["figures", "--figure", "residual_limit.fig3", "--scale", "smoke", "--out", str(tmp_path / "out"), "--log"]
    for _ in range(2):
        assert launch.guarded(lambda: cli.app(words, standalone_mode=False) or 0) == 0
    store = Store()
    (logged,) = store.client.search_runs([store.client.get_experiment_by_name("figures").experiment_id])
    assert logged.info.run_name == "residual_limit.fig3 (smoke)"
    names = {file.path for file in store.client.list_artifacts(logged.info.run_id)}
    assert names == {f"residual_limit.fig3-smoke.{ending}" for ending in ("pdf", "png", "csv")}
    behind = store.search(extra="tags.`reprod.figures` LIKE '%residual_limit.fig3 (smoke)%'")
    assert len(behind) == 2
    note = logged.data.tags["mlflow.note.content"]
    assert all(record.id in note for record in behind)
    assert "| claim | published | ours | verdict |" in note


@pytest.mark.browser
@pytest.mark.timeout(600)
@in_group
def test_in_a_browser(site: Path, paper: str, tmp_path: Path):
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark")
        page = context.new_page()
        trouble: list[str] = []
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("requestfailed", lambda request: trouble.append(request.url))
        for path in sorted(site.glob("*.html")):
            page.goto(path.as_uri())
            page.evaluate("document.querySelectorAll('img').forEach((i) => { i.loading = 'eager' })")
            page.wait_for_function("[...document.images].every((i) => i.complete)")
            assert page.evaluate("[...document.images].every((i) => i.naturalWidth > 0)"), path.name
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path.name} is too wide"
            page.screenshot(path=tmp_path / f"{path.stem}.png")
        # light and dark, by the system and by the button
        back = "getComputedStyle(document.body).backgroundColor"
        dark = page.evaluate(back)
        page.click("#theme")
        assert page.evaluate(back) != dark
        # the keyboard: the first stop skips to the content
        page.goto((site / "claims.html").as_uri())
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#main"
        # tables sort and filter
        page.set_viewport_size({"width": 1200, "height": 800})
        column = "[...document.querySelectorAll('#claims tbody tr:not([hidden])')].map((r) => r.cells[1].textContent)"
        before = page.evaluate(column)
        page.click("#claims th:nth-child(2) button")
        up = page.evaluate(column)
        assert sorted(up) == sorted(before)
        page.click("#claims th:nth-child(2) button")
        assert page.evaluate(column)[0] == up[-1] != up[0]
        assert page.get_attribute("#claims th:nth-child(2)", "aria-sort") == "descending"
        page.fill("[data-filter=claims]", up[0])
        kept = page.evaluate(column)
        assert 0 < len(kept) < len(before)
        assert page.inner_text("[data-count=claims]") == f"{len(kept)} of {len(before)}"
        page.fill("[data-filter=claims]", "")
        verdicts = "[...document.querySelectorAll('#claims tbody tr:not([hidden]) .verdict')].map((v) => v.textContent)"
        chosen = page.evaluate(verdicts)[0]
        page.click(f"[data-chip=claims][data-word='{chosen}']")
        assert set(page.evaluate(verdicts)) == {chosen}
        # durations sort as numbers
        page.goto((site / f"{paper}-runs.html").as_uri())
        page.click("#runs th:nth-child(6) button")
        seconds = page.evaluate("[...document.querySelectorAll('#runs td[data-value]')].map((c) => +c.dataset.value)")
        assert len(seconds) > 2
        assert seconds == sorted(seconds)
        assert not trouble


# -- citations and checklists ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", list(papers.experiments()))
def test_every_experiment_can_be_cited(experiment: str):
    text = cite.bibtex([experiment])
    known = cite.entries()
    keys = re.findall(r"@\w+\{(\w+),", text)
    assert keys[: len(papers.experiments()[experiment].cite)] == list(papers.experiments()[experiment].cite)
    assert keys[-1] == "reprod"
    assert len(keys) == len(set(keys)) >= 3 + len(papers.experiments()[experiment].cite)
    for key in keys:
        entry = known[key]
        assert entry.count("{") == entry.count("}")
        fields = dict(re.findall(r"^  (\w+) = \{(.*)\},?$", entry, re.M))
        assert fields["title"] and fields["author"], key
        assert fields.get("year", "2000").isdigit()
    assert not set(known) - {key for name in papers.experiments() for key in cite.keys(name)}, "an entry nobody uses"


@in_group
def test_the_checklist_says_what_the_store_knows_and_what_not(smoke_store: Store, paper: str):
    said = checklist(smoke_store, paper)
    records = [r for r in smoke_store.search() if r.status == "FINISHED" and r.seed is not None]
    (spec,) = [r for r in records if r.experiment == "resnet_long_time"][:1]
    size = sum(p.numel() for p in spec.model().parameters())
    for fact in (
        f"`resnet_long_time`: {size:,}",
        records[0].commit[:10] or "Code.",
        records[0].tags["reprod.cpu"],
        records[0].tags["reprod.lock"],
        "8 of 8 at scale smoke",
        "0 of 8 at scale paper",
        "Licences of data and code.** **not in the store**",
        "sha256 `",
    ):
        assert fact in said, fact
    assert "no finished run of this paper" in checklist(smoke_store, "morse_graph")
