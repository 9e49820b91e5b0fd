"""MLflow's own pages in a real browser, over the smoke store of a paper: what a person sees of our runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprod import cli
from reprod.jobs import launch
from reprod.store import Store
from tests.e2e.conftest import Server, chromium

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
of_neural_ode = pytest.mark.parametrize(
    "paper", [pytest.param("neural_ode", marks=pytest.mark.xdist_group("neural_ode"))]
)


@pytest.fixture
def served(smoke_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, str]]:
    """A copy of the store with a batch of two seeds and a logged figure, behind `mlflow server`."""
    shutil.copy(Path(smoke_store.uri.removeprefix("sqlite:///")), tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    batch = ["run", "sphere_ode", "-P", "scale=smoke", "-P", "step_size=0.25", "-P", "seeds=3,4"]
    for words in (batch, ["figures", "--figure", "fig4a", "--scale", "smoke", "--log"]):
        assert launch.guarded(lambda words=words: cli.app(words, standalone_mode=False) or 0) == 0
    server = Server(tmp_path, uri)
    server.start()
    try:
        yield Store(uri), server.uri
    finally:
        server.stop()


@of_neural_ode
def test_list_compare_figure_and_model(served: tuple[Store, str], paper: str, tmp_path: Path):
    store, uri = served
    records = store.search("sphere_ode")
    parent = next(r for r in records if r.seed is None)
    children = sorted(store.children(parent.id), key=lambda r: r.seed or 0)
    place = parent.entity.info.experiment_id
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1600, "height": 1000})

        def see(path: str, *texts: str, shot: str) -> str:
            page.goto(f"{uri}/#/{path}")
            page.reload()
            for text in texts:
                page.get_by_text(text).first.wait_for(timeout=60_000)
            page.screenshot(path=tmp_path / f"{shot}.png")
            return page.inner_text("body")

        # the list: readable names, children under their parent
        said = see(f"experiments/{place}/runs", "step_size=0.25", shot="list")
        assert "sphere_ode" in said
        assert "seed=4" not in said, "children are folded under their parent"
        page.locator("[col-id*='Run Name'] div[style*='width: 24px'] > *").first.click()  # the + before the parent
        page.get_by_text("seed=4").first.wait_for()
        page.screenshot(path=tmp_path / "children.png")
        # a run: description in Markdown, metrics, tags
        child = children[0]
        said = see(f"experiments/{place}/runs/{child.id}", "Make it again", "reprod.paper", shot="run")
        assert child.config.command() in said
        assert f"`{child.config.command()}`" not in said, "Markdown is rendered"
        assert "test/accuracy" in said
        # two runs compared
        both = f'runs=["{children[0].id}","{children[1].id}"]&experiments=["{place}"]'
        said = see(f"compare-runs?{both}", "Comparing 2 Runs", children[1].name, shot="compare")
        assert "test/accuracy" in said
        # the figure, opened
        (figure,) = store.client.search_runs([store.client.get_experiment_by_name("figures").experiment_id])
        path = f"experiments/{figure.info.experiment_id}/runs/{figure.info.run_id}"
        assert figure.info.run_name == "neural_ode.fig4a (smoke)"
        said = see(path, "Runs behind it", "Sphere2, trained by Euler", shot="figure-run")
        see(f"{path}/artifacts/neural_ode.fig4a-smoke.png", "neural_ode.fig4a-smoke.png", shot="figure")
        page.wait_for_function("[...document.images].some((i) => i.naturalWidth > 500)", timeout=60_000)
        time.sleep(0.5)
        page.screenshot(path=tmp_path / "figure.png")
        used = store.client.search_runs([place], "tags.`reprod.figures` LIKE '%neural_ode.fig4a (smoke)%'")
        assert len(used) == 2, "the runs behind a figure are found by its name"
        # the model
        (model,) = child.entity.outputs.model_outputs
        said = see(f"experiments/{place}/models/{model.model_id}", child.name, "Serve it", shot="model")
        assert "Serve it" in said
        assert "pickle (not exported at smoke scale)" in said
