"""E5: one chain of SGLD or of MALA at the same truth and data, timed (figure 15)."""

from __future__ import annotations

from torch.nn.functional import mse_loss

from reprod import training
from reprod.errors import Diverged
from reprod.learning_coefficient.config import MalaVsSgld
from reprod.learning_coefficient.estimate import Chains, Sampling
from reprod.learning_coefficient.models import ReluMlp
from reprod.learning_coefficient.potentials import ModelPotential
from reprod.learning_coefficient.reporting import generated, report_estimate, teacher_data
from reprod.machine import device_of
from reprod.run import Run


def mala_vs_sgld(config: MalaVsSgld, run: Run) -> None:
    """One chain per seed at the same truth and data, timed."""
    run.each_seed(_timed_chain)


def _timed_chain(config: MalaVsSgld, run: Run) -> None:
    (seed,) = config.seeds
    device = device_of(config.device)
    truth = ReluMlp(config.widths, seed=config.truth_seed).to(device)
    x, y = teacher_data(truth, config.n_train, config.truth_seed, device)
    generated(run, "uniform_inputs", config.n_train, (config.widths[0],), x)
    potential = ModelPotential(truth, mse_loss, (x, y))
    is_mala = config.sampler == "mala"
    settings = Sampling(
        sampler=config.sampler, step_size=config.step_size, num_steps=config.sgld_steps, chains=1, gamma=config.gamma,
        batch_size=None if is_mala else config.sgld_batch_size, burn_in=0.0, seed=seed, trace="after", order="fixed",
        acceptance_every=1 if is_mala else config.acceptance_every,
    )  # fmt: skip
    chains = Chains(potential, potential.centre, settings)
    state = training.State(**chains.parts())
    for iteration in training.loop(run, chains.num_steps, state, every=config.checkpoint_every):
        chains.step(iteration - 1)
    found = chains.estimate()
    if found.diverged:
        raise Diverged(found.warnings[0])
    if is_mala and not found.acceptance.any():
        raise Diverged(f"MALA accepted no proposal, the chain never moved; lower step_size (now {config.step_size:g})")
    report_estimate(run, found, "llc")
    run.log(config.sgld_steps, {"network/parameters": potential.dimension})
