"""Data sets of sequences: the bundled ones, ``.npz`` files, and padding. Imports NumPy only: it runs on the device.

An ``.npz`` file holds all sequences of one set under these keys:

======== ============== ==========================================================================
key      dtype          contents
======== ============== ==========================================================================
x        float32        [sum(lengths), features]: the steps of all sequences, one after the other
lengths  any integer    [samples]: steps of each sequence, at least 1
y        any integer    [samples]: the class of each sequence, 0 or more; or, for regression,
         or float32     float32 [samples] or [samples, targets]
labels   text           optional, [classes]: the name of each class
======== ============== ==========================================================================
"""

from lstm_edge.data._files import BUNDLED, load, load_npz
from lstm_edge.data._sequences import Dataset, pad

__all__ = ["BUNDLED", "Dataset", "load", "load_npz", "pad"]
