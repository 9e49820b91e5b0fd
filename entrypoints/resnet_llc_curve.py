"""Learning coefficient of a ResNet18 along its training on CIFAR-10 (Lau et al. 2023, figure F18)."""

from reprod.jobs.launch import entry_point

main = entry_point("resnet_llc_curve")

if __name__ == "__main__":
    raise SystemExit(main())
