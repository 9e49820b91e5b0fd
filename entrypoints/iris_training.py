"""Small networks on iris, a hundred at once (Eslami et al. 2021, figures 2 and 3)."""

import sys

from reprod.jobs.launch import entry_point

main = entry_point("iris_training")

if __name__ == "__main__":
    sys.exit(main())
