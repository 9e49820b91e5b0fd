"""Distance of nets of all depths to a very deep one (Marion et al. 2024, figure 1 right)."""

from reprod.jobs.launch import entry_point

main = entry_point("resnet_convergence")

if __name__ == "__main__":
    raise SystemExit(main())
