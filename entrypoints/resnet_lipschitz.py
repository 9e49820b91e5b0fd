"""Distance of neighbouring layers against depth (Marion et al. 2024, figure 1 left)."""

from reprod.jobs.launch import entry_point

main = entry_point("resnet_lipschitz")

if __name__ == "__main__":
    raise SystemExit(main())
