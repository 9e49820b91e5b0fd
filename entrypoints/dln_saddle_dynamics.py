"""Saddle-to-saddle dynamics of a deep linear network (Lau et al. 2023, figure F13)."""

from reprod.jobs.launch import entry_point

main = entry_point("dln_saddle_dynamics")

if __name__ == "__main__":
    raise SystemExit(main())
