"""Neural ODE on concentric spheres and three minima (Ott et al. 2021, figures 1, 2, 4 a, 4 b)."""

import sys

from reprod.jobs.launch import entry_point

main = entry_point("sphere_ode")

if __name__ == "__main__":
    sys.exit(main())
