"""SGLD against full-data MALA in value and time (Lau et al. 2023, figure F15)."""

from reprod.jobs.launch import entry_point

main = entry_point("mala_vs_sgld")

if __name__ == "__main__":
    raise SystemExit(main())
