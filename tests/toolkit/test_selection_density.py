"""`select --densities`: sparse candidates are pruned in training, measured as sparse files, chosen by bytes."""

import re

import numpy as np
import pytest
from support.training_cases import LENGTHS, sequences
from typer.testing import CliRunner

import lstm_edge
from lstm_edge.checkpoint import load_checkpoint
from lstm_edge.cli import app
from lstm_edge.sparsity import measure
from lstm_edge.training import TrainingOptions
from lstm_edge.training.selection import Architecture, Candidate, SelectionSettings, choose, select
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import get_metric


def test_the_grid_has_dense_candidates_first_and_old_names_stay():
    settings = SelectionSettings(hidden=(16, 8), layers=(2, 1), densities=(0.25, 1.0))
    names = [str(architecture) for architecture in settings.architectures]
    assert names[:4] == ["8 x 1", "8 x 1 at 0.25", "8 x 2", "8 x 2 at 0.25"]
    # The default grid and the keys of its trials are those of databases that exist.
    assert SelectionSettings(hidden=(8,)).architectures == (Architecture(hidden=8, layers=1),)


@pytest.mark.parametrize("densities", [(), (0.0,), (1.5,), (0.5, 0.5)])
def test_densities_out_of_their_range(densities):
    with pytest.raises(InputError, match="densit"):
        SelectionSettings(hidden=(8,), densities=densities)


def test_of_equal_files_the_dense_one_is_chosen():
    def candidate(density, size):
        architecture = Architecture(hidden=8, layers=1, density=density)
        return Candidate(
            architecture=architecture,
            parameters=1,
            int8_bytes=size,
            step_us=1.0,
            streamed=True,
            within_limits=True,
            scores=(0.9, 0.8),
        )

    accuracy = get_metric("accuracy")
    _, chosen = choose([candidate(0.25, 100), candidate(1.0, 100)], accuracy)
    assert chosen.architecture.density == 1.0
    _, chosen = choose([candidate(0.25, 99), candidate(1.0, 100)], accuracy)
    assert chosen.architecture.density == 0.25


@pytest.mark.long
@pytest.mark.slow
def test_a_sparse_candidate_is_smaller_and_is_trained_to_its_density(tmp_path):
    settings = SelectionSettings(
        hidden=(128,), densities=(1.0, 0.25), folds=2, options=TrainingOptions(epochs=1, batch_size=4, held_out=0.25)
    )
    report = select(sequences("classification"), settings, storage=f"sqlite:///{tmp_path / 's.sqlite3'}")
    dense, sparse = report.candidates
    assert (dense.architecture.density, sparse.architecture.density) == (1.0, 0.25)
    # Weights of W are 2 inputs: R decides.
    assert sparse.int8_bytes < dense.int8_bytes - 128 * 4 * 128 * 0.6
    assert report.rows()[1][0] == "128 x 1 at 0.25"
    assert report.to_json()["candidates"][1]["density"] == 0.25


@pytest.mark.long
@pytest.mark.slow
def test_the_command_trains_the_chosen_one(tmp_path):
    data = sequences("classification")
    np.savez(tmp_path / "d.npz", x=data.x, lengths=LENGTHS, y=data.y)
    output = tmp_path / "m.safetensors"
    command = ["select", "--data", str(tmp_path / "d.npz"), "--hidden-sizes", "128", "--densities", "0.25", "--folds"]
    result = CliRunner().invoke(app, [*command, "2", "--epochs", "1", "-o", str(output)])
    assert result.exit_code == 0, result.output
    assert "128 x 1 at 0.25" in result.stdout
    assert measure(load_checkpoint(output)).density == pytest.approx(0.25, abs=0.01)
    result = CliRunner().invoke(app, [*command, "2", "--densities", "0,1", "-o", str(output)])
    assert result.exit_code == 2
    assert re.search(r"--densities is '0,1', expected numbers above 0 and at most 1", result.stderr)
    with pytest.raises(InputError, match="a density of select is 2"):
        lstm_edge.select(data=str(tmp_path / "d.npz"), output=output, hidden_sizes=(8,), densities=(2,))
