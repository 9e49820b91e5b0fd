"""Small convolutional networks on two digits of MNIST (Eslami et al. 2021, figures 4 and 5)."""

import sys

from reprod.jobs.launch import entry_point

main = entry_point("mnist_training")

if __name__ == "__main__":
    sys.exit(main())
