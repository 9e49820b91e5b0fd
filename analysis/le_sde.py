"""Figures and claims of Zhang et al. (2021), Imitating Deep Learning Dynamics via Locally Elastic SDEs."""
