"""Estimated against exact learning coefficients of deep linear networks (Lau et al. 2023, figures F1 to F12)."""

from reprod.jobs.launch import entry_point

main = entry_point("dln_llc")

if __name__ == "__main__":
    raise SystemExit(main())
