"""Numbers that Eslami et al. (2021) printed, or that were read off their plots."""

from __future__ import annotations

SWEEPS: dict[str, dict[str, dict[int, str]]] = {
    "iris": {
        "epochs": {n: "iris_baseline" if n == 150 else f"iris_epoch_{n}" for n in (100, 150, 300, 450)},
        "batch size": {n: "iris_baseline" if n == 5 else f"iris_batch_{n}" for n in (5, 10, 20, 40)},
        "layers": {n: "iris_baseline" if n == 1 else f"iris_layers_{n}" for n in (1, 2, 3, 4)},
        "hidden nodes": {n: f"iris_nodes_{n}" for n in (3, 4, 5, 6)},
    },
    "mnist": {
        "epochs": {n: "mnist_baseline" if n == 4 else f"mnist_epoch_{n}" for n in (4, 8, 12, 16)},
        "batch size": {n: "mnist_baseline" if n == 128 else f"mnist_batch_{n}" for n in (32, 64, 128, 256)},
        "layers": {n: "mnist_baseline" if n == 1 else f"mnist_layers_{n}" for n in (1, 2, 3, 4)},
    },
}
TITLES = {"iris": "Iris", "mnist": "MNIST 0/1"}

# In the order of the sweep. The mean of the swapped balanced accuracy is printed in the legends; its median, the median
# entropy and the median deviation of the weights were read off the violins, to 0.01.
PUBLISHED: dict[tuple[str, str], dict[str, tuple[float, ...]]] = {
    ("mnist", "epochs"): {
        "mean": (0.75, 0.88, 0.90, 0.93), "median": (0.80, 0.92, 0.945, 0.95), "entropy": (0.56, 0.315, 0.23, 0.155),
        "spread": (1.117, 1.072, 1.043, 1.013),
    },
    ("mnist", "batch size"): {
        "mean": (0.91, 0.86, 0.75, 0.56), "median": (0.96, 0.89, 0.80, 0.57), "entropy": (0.24, 0.35, 0.56, 0.69),
    },
    ("mnist", "layers"): {
        "mean": (0.75, 0.84, 0.79, 0.78), "median": (0.80, 0.865, 0.82, 0.83), "entropy": (0.56, 0.41, 0.52, 0.58),
    },
    ("iris", "epochs"): {
        "mean": (0.85, 0.92, 0.95, 0.95), "median": (0.91, 0.945, 0.96, 0.95), "entropy": (0.74, 0.57, 0.36, 0.22),
    },
    ("iris", "batch size"): {
        "mean": (0.92, 0.79, 0.60, 0.44), "median": (0.945, 0.88, 0.635, 0.38), "entropy": (0.57, 0.79, 0.97, 1.08),
    },
    ("iris", "layers"): {
        "mean": (0.92, 0.94, 0.85, 0.77), "median": (0.945, 0.945, 0.89, 0.74), "entropy": (0.57, 0.77, 0.83, 0.87),
    },
    ("iris", "hidden nodes"): {"mean": (0.94, 0.95, 0.95, 0.95), "median": (0.95,) * 4},
}  # fmt: skip
READING = "0.01"  # error of what was read off a violin

# direction of the accuracy along a sweep, and from which value on; entropy and deviation go the other way
ORDERS = {
    ("iris", "epochs"): (1, 0), ("iris", "batch size"): (-1, 0), ("iris", "layers"): (-1, 1),
    ("mnist", "epochs"): (1, 0), ("mnist", "batch size"): (-1, 0),
}  # fmt: skip

PUBLISHED_BY_DIMENSION = {2: 70.76, 3: 142.39, 4: 257.30, 5: 611.37}
PUBLISHED_BY_SUBDIVISION = dict(
    zip(
        range(5, 18), (0.33, 0.40, 0.61, 0.82, 1.46, 2.65, 4.73, 8.94, 17.93, 35.78, 68.59, 123.81, 297.46), strict=True
    )
)
