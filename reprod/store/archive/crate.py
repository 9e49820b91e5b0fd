"""An archive as an RO-Crate of the Process Run Crate profile: software, and each run as an action with start, end,
agent, parameters, inputs and outputs. Written by `rocrate`; nothing in it changes from one time to the next."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
INDEX = "runs.json"


def describe(index: Mapping[str, Any], members: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    """The metadata of an archive; `members` gives name and size of each file by its sha256."""
    from rocrate.model import ContextEntity, DataEntity
    from rocrate.rocrate import ROCrate

    from reprod import papers

    crate = ROCrate(version="1.1")
    known = papers.papers().get(index["paper"])
    title = known.title if known else index["paper"]
    crate.name = f"Runs of record: {title}"
    crate.description = f"Every run behind the figures and claims of `reprod` for: {title}. {index['rule']}"
    ends = [run["end"] or run["start"] for run in index["runs"]]
    crate.datePublished = datetime.datetime.fromtimestamp(max(ends, default=0) / 1000, datetime.UTC)
    crate.license = {"@id": "https://spdx.org/licenses/MIT"}
    parts: dict[str, dict[str, Any]] = {}  # data entities
    facts: dict[str, dict[str, Any]] = {  # all others
        "https://spdx.org/licenses/MIT": {"@type": "CreativeWork", "name": "MIT License"},
        "#reprod-authors": {"@type": "Organization", "name": "The reprod authors"},
        PROFILE: {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
    }
    actions = []
    parts[INDEX] = {
        "@type": "File", "name": "Index: parameters, tags, last metrics, names and sha256 of the files of every run",
        "encodingFormat": "application/json",
    }  # fmt: skip
    for run in index["runs"]:
        if "reprod.config" in run["tags"] or "reprod.figure" in run["tags"]:
            actions.append(_action(run, members, parts, facts))
    for identifier, properties in sorted(parts.items()):
        crate.add(DataEntity(crate, identifier, properties=properties))
    for identifier, properties in sorted(facts.items()):
        crate.add(ContextEntity(crate, identifier, properties=properties))
    crate.root_dataset["author"] = crate.root_dataset["publisher"] = {"@id": "#reprod-authors"}
    crate.root_dataset["conformsTo"] = {"@id": PROFILE}
    crate.root_dataset["mentions"] = [{"@id": action} for action in sorted(actions)]
    return json.loads(json.dumps(crate.metadata.generate()))


def _action(
    run: Mapping[str, Any], members: Mapping[str, tuple[str, int]], parts: dict[str, Any], facts: dict[str, Any]
) -> str:
    """A run, with what it refers to. Its identifier."""
    tags = run["tags"]
    drawn = tags.get("reprod.figure")
    software = f"#reprod-{tags.get('reprod.version', '')}-{tags.get('reprod.git_commit', '') or 'drawing'}"
    facts[software] = {
        "@type": "SoftwareApplication", "name": "reprod",
        "softwareVersion": f"{tags.get('reprod.version', '?')} at commit {tags.get('reprod.git_commit', 'unknown')}",
    }  # fmt: skip
    agent = f"#{quote(run['user'] or 'unknown')}"
    facts[agent] = {"@type": "Person", "name": run["user"] or "unknown"}
    files = {**run["files"], **({"metrics.npy": run["history"]} if run["history"] else {})}
    results = sorted({_file(name, file, members, parts) for name, file in files.items() if "sha256" in file})
    action = {
        "@type": "CreateAction",
        "name": f"Drawing of {drawn}" if drawn else run["name"] or run["id"],
        "description": f"Drawn from {INDEX}" if drawn else f"Made again by: {run['command']}",
        "startTime": _time(run["start"]), "endTime": _time(run["end"] or run["start"]),
        "instrument": {"@id": software}, "agent": {"@id": agent},
        "object": [{"@id": each} for each in _inputs(run, facts)] or [{"@id": INDEX}],
        "result": [{"@id": each} for each in [*results, INDEX]],
        "actionStatus": f"http://schema.org/{'Completed' if run['status'] == 'FINISHED' else 'Failed'}ActionStatus",
    }  # fmt: skip
    if run["status"] != "FINISHED":
        action["error"] = tags.get("reprod.failure", "") or run["status"]
    facts[f"#run-{run['id']}"] = action
    return f"#run-{run['id']}"


def _file(name: str, file: Mapping[str, Any], members: Mapping[str, tuple[str, int]], parts: dict[str, Any]) -> str:
    member, size = members[file["sha256"]]
    if member not in parts:
        shuffled = f", bytes of words of {member.split('.w')[1].split('.')[0]} shuffled" if ".w" in member else ""
        parts[member] = {
            "@type": "File", "name": name, "encodingFormat": "application/x-xz", "contentSize": str(size),
            "description": f"sha256 of the content: {file['sha256']}; {file['size']} bytes{shuffled}",
        }  # fmt: skip
    elif name < parts[member]["name"]:  # shared by several runs
        parts[member]["name"] = name
    return member


def _inputs(run: Mapping[str, Any], facts: dict[str, Any]) -> Iterator[str]:
    experiment = run["tags"].get("reprod.experiment", "")
    for name, text in sorted(run["params"].items()):
        identifier = f"#{experiment}/{quote(name)}={quote(text)}"
        facts[identifier] = {"@type": "PropertyValue", "name": name, "value": text}
        yield identifier
    for data in run["datasets"]:
        profile = json.loads(data["profile"]) if data["profile"] else {}
        split = data["tags"].get("mlflow.data.context", "")
        digest = profile.get("sha256", data["digest"])
        identifier = f"#data/{quote(data['name'])}/{quote(split)}/{digest}"
        facts[identifier] = {"@type": "CreativeWork", "name": f"{data['name']} {split}".strip(), "identifier": digest}
        yield identifier


def _time(milliseconds: int) -> str:
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC).isoformat(timespec="milliseconds")
