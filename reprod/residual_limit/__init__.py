"""Marion et al., Implicit Regularization of Deep Residual Networks towards Neural ODEs, ICLR 2024."""
