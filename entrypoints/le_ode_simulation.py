"""The LE-ODE driven by measured strengths of local elasticity (Zhang et al. 2021, figure 5)."""

from reprod.jobs.launch import entry_point

main = entry_point("le_ode_simulation")

if __name__ == "__main__":
    raise SystemExit(main())
