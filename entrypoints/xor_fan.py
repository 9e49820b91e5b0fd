"""Lady Windermere's fan on XOR (Ott et al. 2021, figure 3)."""

import sys

from reprod.jobs.launch import entry_point

main = entry_point("xor_fan")

if __name__ == "__main__":
    sys.exit(main())
