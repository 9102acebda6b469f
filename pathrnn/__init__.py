"""Train ReLU recurrent networks in path space: a space times a rule, where the rule is any torch optimizer.

Weights of a ReLU network can be rescaled unit by unit without changing its function. :class:`PathSpace` hands a torch
optimizer coordinates that no rescaling changes; :class:`GaugeFixed` hands it the representative of least norm;
:class:`PathSGD` measures steps by the path norm.
"""

from pathrnn import init
from pathrnn.basis import BasisPaths
from pathrnn.gauge import balance_
from pathrnn.graph import ReductionGraph
from pathrnn.optim import GaugeFixed, PathSpace, muon
from pathrnn.path_norm import PathSGD, path_condition_
from pathrnn.scan import relu_scan

__all__ = ["BasisPaths", "GaugeFixed", "PathSGD", "PathSpace", "ReductionGraph", "__version__"]
__all__ += ["balance_", "init", "muon", "path_condition_", "relu_scan"]
__version__ = "0.2.0"
