"""A hundred LeNets on GeoMNIST under label corruption (Zhang et al. 2021, figures 1, 3, 4)."""

from reprod.jobs.launch import entry_point

main = entry_point("geomnist_dynamics")

if __name__ == "__main__":
    raise SystemExit(main())
