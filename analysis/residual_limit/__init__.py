"""The figures of residual_limit and what the paper claims about them, a module per family."""

from reprod.analysis.residual_limit import cifar as cifar
from reprod.analysis.residual_limit import depth as depth
from reprod.analysis.residual_limit import long_time as long_time
from reprod.analysis.residual_limit import theory as theory
