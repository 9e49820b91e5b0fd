"""`mlflow run .` without `-e`: the entry points there are."""

import sys

from reprod import papers


def main() -> int:
    print("Choose an entry point with -e:\n")
    for name, paper in papers.ours().items():
        about = (paper.config_class(name).__doc__ or "").strip().splitlines()[0]
        print(f"  mlflow run . -e {name:<22} {about}")
    print("\nParameters: -P name=value; `reprod run NAME -P help=` shows them.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
