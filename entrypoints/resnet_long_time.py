"""Long training of one scaled residual network (Marion et al. 2024, figure 2)."""

from reprod.jobs.launch import entry_point

main = entry_point("resnet_long_time")

if __name__ == "__main__":
    raise SystemExit(main())
