"""A hundred LeNets on K classes of CIFAR-10 (Zhang et al. 2021, figures 1 and 3)."""

from reprod.jobs.launch import entry_point

main = entry_point("cifar_dynamics")

if __name__ == "__main__":
    raise SystemExit(main())
