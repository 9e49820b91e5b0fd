"""MLproject, written from the `Config` classes: `python -m reprod.mlproject` rewrites it, a test compares it.

Every parameter stands in it. One whose default is the same at all scales is declared with that default. One that a
scale changes cannot be: MLflow passes and logs declared defaults as if the user had typed them, and the scale's own
value could never apply; it stands as a comment, and `-P name=value` reaches the command all the same.
"""

from __future__ import annotations

from reprod import papers
from reprod.config import parameter_table, scaled_parameters

HEAD = """\
name: reprod

# Written by `python -m reprod.mlproject` from the Config classes in reprod/<paper>/config.py: edit those.
# Any parameter can be given with -P, also those that stand here as comments because their default depends on the scale.

conda_env: conda.yaml

entry_points:
  main:  # `mlflow run .` without -e: which entry points there are
    command: "python -m entrypoints.main"
"""


def text() -> str:
    return HEAD + "\n".join(_entry(name) for name in papers.ours())


def _entry(name: str) -> str:
    cls = papers.config_class(name)
    scaled = scaled_parameters(cls)
    rows = parameter_table(cls)
    lines = [f"  {name}:  # {(cls.__doc__ or '').strip().splitlines()[0]}", "    parameters:"]
    for row in rows:
        if row["name"] in scaled:
            lines.append(f"      # {row['name']}: paper={row['default']} {row['scales']} ({row['help']})")
        else:
            lines.append(f'      {row["name"]}: {{type: {row["type"]}, default: "{row["default"]}"}}  # {row["help"]}')
    words = [f"--{row['name']} {{{row['name']}}}" for row in rows if row["name"] not in scaled]
    lines += ["    command: >-", f"      python -m entrypoints.{name}", *(f"      {word}" for word in words)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    from reprod import project

    (project.need_root() / "MLproject").write_text(text())
