"""Neural ODE on MNIST (Ott et al. 2021, first version)."""

import sys

from reprod.jobs.launch import entry_point

main = entry_point("mnist_ode")

if __name__ == "__main__":
    sys.exit(main())
