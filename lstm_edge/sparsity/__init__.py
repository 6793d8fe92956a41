"""Block sparsity of recurrent layers: for a user's own training loop, and for ``lstm-edge train --sparse``."""

from lstm_edge.sparsity.densities import Densities, Density, parse_densities
from lstm_edge.sparsity.masks import Masks, measure
from lstm_edge.sparsity.report import MatrixReport, SparsityReport
from lstm_edge.sparsity.stepping import BlockSparsity

__all__ = [
    "BlockSparsity",
    "Densities",
    "Density",
    "Masks",
    "MatrixReport",
    "SparsityReport",
    "measure",
    "parse_densities",
]
