"""Train ReLU recurrent networks in path space: a space times a rule, where the rule is any torch optimizer.

Weights of a ReLU network can be rescaled unit by unit without changing its function. Path space has coordinates that
such a rescaling cannot change: products of weights along basis paths of the reduction graph. :class:`PathSpace` hands
these coordinates to a torch optimizer and writes its step back to the weights; :class:`GaugeFixed` hands it the one
representative of least norm; :class:`PathSGD` measures steps by the path norm.
"""

from pathrnn import init
from pathrnn.basis import BasisPaths
from pathrnn.gauge import balance_
from pathrnn.graph import ReductionGraph
from pathrnn.muon import muon
from pathrnn.optim import GaugeFixed, PathSGD, PathSpace
from pathrnn.path_norm import path_condition_

__all__ = [
    "BasisPaths",
    "GaugeFixed",
    "PathSGD",
    "PathSpace",
    "ReductionGraph",
    "__version__",
    "balance_",
    "init",
    "muon",
    "path_condition_",
]
__version__ = "0.1.0"
