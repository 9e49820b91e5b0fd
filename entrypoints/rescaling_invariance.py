"""Invariance of the estimate under ReLU rescaling (Lau et al. 2023, figure F14)."""

from reprod.jobs.launch import entry_point

main = entry_point("rescaling_invariance")

if __name__ == "__main__":
    raise SystemExit(main())
