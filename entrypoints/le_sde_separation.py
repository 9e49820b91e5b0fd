"""Class gap against spread under decaying local elasticity (the phase transition of Zhang et al. 2021)."""

from reprod.jobs.launch import entry_point

main = entry_point("le_sde_separation")

if __name__ == "__main__":
    raise SystemExit(main())
