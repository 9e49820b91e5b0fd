"""The figures of learning_coefficient and what the paper claims about them, a module per family."""

from reprod.analysis.learning_coefficient import networks as networks
from reprod.analysis.learning_coefficient import rescaling as rescaling
from reprod.analysis.learning_coefficient import resnet as resnet
from reprod.analysis.learning_coefficient import samplers as samplers
from reprod.analysis.learning_coefficient import staircase as staircase
from reprod.analysis.learning_coefficient import theory as theory
from reprod.analysis.learning_coefficient import traces as traces
