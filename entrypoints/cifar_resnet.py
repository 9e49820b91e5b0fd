"""Convolutional residual network on CIFAR-10 (Marion et al. 2024, figure 3 and table 1)."""

from reprod.jobs.launch import entry_point

main = entry_point("cifar_resnet")

if __name__ == "__main__":
    raise SystemExit(main())
