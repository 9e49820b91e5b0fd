"""An archive is a Process Run Crate: the community's validator accepts it. Needs no network."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from reprod.figures import archiving
from reprod.store.archive.take import Watched
from tests.core.test_archive import WALKS, added, archive, folder, made  # noqa: F401

rocrate = pytest.importorskip("rocrate")
pytest.importorskip("rocrate_validator")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validator's HTTP cache, with the JSON-LD context that rocrate ships."""
    import requests
    from requests.adapters import BaseAdapter
    from requests_cache import CachedSession
    from urllib3 import HTTPResponse

    context = (Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_bytes()

    class Shipped(BaseAdapter):
        def send(self, request: Any, **_: Any) -> requests.Response:
            answer = requests.Response()
            answer.status_code, answer.url, answer.request = 200, request.url, request
            answer.headers["Content-Type"] = "application/ld+json"
            answer.raw = HTTPResponse(io.BytesIO(context), answer.headers, 200, preload_content=False)
            return answer

        def close(self) -> None:
            pass

    path = tmp_path_factory.mktemp("http") / "cache"
    session = CachedSession(str(path), backend="sqlite", allowable_methods=("GET",), expire_after=-1)
    session.mount("https://", Shipped())
    assert session.get("https://w3id.org/ro/crate/1.1/context").ok
    session.close()
    return path


def validated(crate: Path, cache: Path, report: Path) -> dict[str, Any]:
    command = [str(Path(sys.executable).parent / "rocrate-validator"), "-y", "validate", str(crate), "--offline"]
    command += ["--cache-path", str(cache), "-p", "process-run-crate-0.5", "-l", "required", "-f", "json"]
    subprocess.run([*command, "-o", str(report)], capture_output=True, check=False, timeout=200)
    return json.loads(report.read_text())


def unpacked(archive: Path, folder: Path) -> Path:  # noqa: F811
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    return folder


def test_the_validator_accepts_an_archive(archive: Path, cache: Path, tmp_path: Path):  # noqa: F811
    crate = unpacked(archive, tmp_path / "crate")
    assert validated(crate, cache, tmp_path / "good.json")["issues"] == []
    metadata = crate / "ro-crate-metadata.json"
    content = json.loads(metadata.read_text())
    for entity in content["@graph"]:  # and it can say no
        if entity["@type"] == "CreateAction":
            del entity["instrument"]
    metadata.write_text(json.dumps(content))
    assert validated(crate, cache, tmp_path / "bad.json")["issues"]


def test_what_the_crate_says_of_a_run(archive: Path):  # noqa: F811
    with zipfile.ZipFile(archive) as file:
        graph = {each["@id"]: each for each in json.loads(file.read("ro-crate-metadata.json"))["@graph"]}
        names = set(file.namelist())
    actions = [each for each in graph.values() if each["@type"] == "CreateAction"]
    assert len(actions) == 3
    (one,) = [each for each in actions if "seed=1" in each["name"]]
    assert one["startTime"] < one["endTime"] and graph[one["agent"]["@id"]]["@type"] == "Person"
    software = graph[one["instrument"]["@id"]]
    assert software["name"] == "reprod" and "ab12" * 10 in software["softwareVersion"]
    objects = [graph[each["@id"]] for each in one["object"]]
    assert {"rate": "0.2", "seeds": "1"}.items() <= {o["name"]: o.get("value") for o in objects}.items()
    assert any(o.get("identifier") == "ab" * 32 for o in objects), "the data set, with its digest"
    assert {each["@id"] for each in one["result"]} <= names and len(one["result"]) >= 3


def test_a_drawn_figure_is_an_output(made, folder: Path, tmp_path: Path):  # noqa: F811
    from reprod.figures.figure import gather, keep, write

    runs = gather(WALKS, "smoke", made)
    keep(WALKS, runs, write(WALKS, runs, tmp_path / "drawn"), made)
    list(archiving.add([WALKS], "smoke", Watched(), folder))
    with zipfile.ZipFile(folder / "toys.zip") as file:
        graph = {each["@id"]: each for each in json.loads(file.read("ro-crate-metadata.json"))["@graph"]}
    (drawing,) = [each for each in graph.values() if each.get("name") == "Drawing of toys.walks"]
    assert any(graph[each["@id"]]["name"].endswith(".png") for each in drawing["result"])
    assert len(added(folder)) == 2, "and it can be added again"
