"""Neural ODE on CIFAR-10 (Ott et al. 2021, figures 4 c, 4 d and 5)."""

import sys

from reprod.jobs.launch import entry_point

main = entry_point("cifar_ode")

if __name__ == "__main__":
    sys.exit(main())
