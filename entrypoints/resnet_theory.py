"""Closed forms and limits that the theory predicts (Marion et al. 2024, sections 3 and 4)."""

from reprod.jobs.launch import entry_point

main = entry_point("resnet_theory")

if __name__ == "__main__":
    raise SystemExit(main())
