"""Data sets of sequences: bundled sets, files, padding and batches. Imports only NumPy, so it also runs on the device.

Files are ``.npz`` (below), CSV of the long form and JSON Lines (docs/data.md). An ``.npz`` file holds all sequences of
one set under these keys:

======== ============== ==========================================================================
key      dtype          contents
======== ============== ==========================================================================
x        float32        [sum(lengths), features]: the steps of all sequences, one after the other
lengths  any integer    [samples]: steps of each sequence, at least 1
y        any integer    [samples]: the class of each sequence, 0 or more; or [sum(lengths)]: that
                        of each step
         or float32     [samples] or [samples, values]: what to forecast for each sequence; or
                        [sum(lengths)] or [sum(lengths), values]: for each step
labels   text           optional, [classes]: the name of each class
groups   any integer    optional, [samples]: sequences that a split must keep together
times    any number     optional, [samples]: when each sequence was recorded, in any unit
======== ============== ==========================================================================
"""

from lstm_edge.data._audio import is_audio, load_audio
from lstm_edge.data._batches import Batch, Pad, Truncate, bucketed_batches, collate, pad
from lstm_edge.data._columns import Columns, parse_columns
from lstm_edge.data._csv import load_csv
from lstm_edge.data._digest import data_sha256
from lstm_edge.data._files import load, load_npz
from lstm_edge.data._json_lines import load_json_lines
from lstm_edge.data._named import LAYOUTS, Layout, NamedDataset
from lstm_edge.data._named_files import load_arrays, load_samples, named_from_arrays
from lstm_edge.data._sequences import TASKS, Dataset, Task
from lstm_edge.data._steps import parse_spacing
from lstm_edge.data._table_options import Missing, TableOptions, table_options
from lstm_edge.data._tables import is_table, load_table
from lstm_edge.data._transcripts import Transcripts, load_transcripts
from lstm_edge.data_names import BUNDLED

__all__ = [
    "BUNDLED",
    "LAYOUTS",
    "TASKS",
    "Batch",
    "Columns",
    "Dataset",
    "Layout",
    "Missing",
    "NamedDataset",
    "Pad",
    "TableOptions",
    "Task",
    "Transcripts",
    "Truncate",
    "bucketed_batches",
    "collate",
    "data_sha256",
    "is_audio",
    "is_table",
    "load",
    "load_arrays",
    "load_audio",
    "load_csv",
    "load_json_lines",
    "load_npz",
    "load_samples",
    "load_table",
    "load_transcripts",
    "named_from_arrays",
    "pad",
    "parse_columns",
    "parse_spacing",
    "table_options",
]
