"""benchmarks/assembly_loops.py finds the loops of a function and reads llvm-mca; no compiler and no llvm-mca needed."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import assembly_loops as loops  # noqa: E402

# A loop over tiles around two inner loops, the second of which does the remainder; the first keeps one value on the
# stack.
NESTED = """
	.globl	int8_4_1
int8_4_1:                               // @int8_4_1
	.cfi_startproc
	mov	x8, xzr
.LBB0_1:                                // =>This Loop Header: Depth=1
	mov	x9, x1
.LBB0_2:                                //   Parent Loop BB0_1 Depth=1
	ldp	q4, q5, [x9], #32
	str	q4, [sp, #16]                   // 16-byte Folded Spill
	sdot	v0.4s, v4.16b, v6.4b[0]
	sdot	v1.4s, v5.16b, v6.4b[0]
	subs	x2, x2, #1
	sdot	v2.4s, v4.16b, v7.4b[0]
	sdot	v3.4s, v5.16b, v7.4b[0]
	b.ne	.LBB0_2
.LBB0_3:
	ldr	q4, [x9], #16
	sdot	v0.4s, v4.16b, v6.16b
	cbnz	x3, .LBB0_3
	add	x8, x8, #1
	cmp	x8, #4
	b.ne	.LBB0_1
	b	.LBB0_4
.LBB0_4:
	ret
.Lfunc_end0:
	.size	int8_4_1, .Lfunc_end0-int8_4_1
float32_4_1:
	mov	x0, x1
	b	part_of_float32
.Lfunc_end1:
part_of_float32:
	tbz	w0, #0, .LBB2_2
.LBB2_1:
	ldr	q4, [x9], #16
	fmla	v0.4s, v4.4s, v6.s[0]
	tbnz	w0, #0, .LBB2_1
.LBB2_2:
	ret
.Lfunc_end2:
empty:
	ret
.Lfunc_end3:
"""
# What llvm-mca 19 printed for a loop on neoverse-n1 at 200 iterations, without its lists of instructions.
SAMPLE = """
{
  "CodeRegions": [
    {
      "Name": "",
      "SummaryView": {
        "BlockRThroughput": 2.5,
        "DispatchWidth": 8,
        "IPC": 3.4071550255536627,
        "Instructions": 2000,
        "Iterations": 200,
        "TotalCycles": 587,
        "TotaluOps": 3000,
        "uOpsPerCycle": 5.1107325383304936
      }
    }
  ],
  "SimulationParameters": {"-march": "aarch64", "-mcpu": "neoverse-n1", "-mtriple": "aarch64"},
  "TargetInfo": {"CPUName": "neoverse-n1", "Resources": ["N1UnitB.0", "N1UnitD.0", "N1UnitL.0"]}
}
"""


def test_the_inner_loop_is_found_without_the_loop_around_it_and_without_the_remainder():
    (loop,) = loops.product_loops(NESTED, "int8_4_1")
    assert loop.lines[0] == ".LBB0_2:"
    assert loop.lines[-1] == "b.ne\t.LBB0_2"
    assert (loop.products, loop.spills) == (64, 1)


def test_a_branch_to_another_function_is_followed_and_a_branch_forwards_is_no_loop():
    (loop,) = loops.product_loops(NESTED, "float32_4_1")
    assert (loop.lines[0], loop.products, loop.spills) == (".LBB2_1:", 4, 0)


def test_the_summary_of_a_stored_output_is_read():
    assert loops.summary(SAMPLE) == (587, 2.5)


@pytest.mark.parametrize("text", ["", "{}", '{"CodeRegions": []}', '{"CodeRegions": [{"SummaryView": {}}]}'])
def test_an_output_without_a_summary_is_an_error(text):
    with pytest.raises(ValueError, match=r"no summary of one region"):
        loops.summary(text)


def stand_in(folder, text):
    """Write a program that answers as llvm-mca does, with 5 cycles an iteration after 9."""
    program = folder / "llvm-mca"
    code = f"""#!{sys.executable}
import json, sys
sys.stdin.read()
turns = next((int(a.partition("=")[2]) for a in sys.argv if a.startswith("-iterations=")), 1)
values = json.loads('''{text}''')
values["CodeRegions"][0]["SummaryView"]["TotalCycles"] = 9 + 5 * turns
print(json.dumps(values))
"""
    program.write_text(code)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_cycles_are_those_of_64_weights_without_the_first_ones(tmp_path):
    command = [stand_in(tmp_path, SAMPLE)]
    one = loops.predict_function(command, NESTED, "int8_4_1", 1)
    assert (one.cycles, one.unit_cycles, one.spills) == (5, 2.5, 1)
    # Four rows share the weights: the same 64 products are of 16 weights.
    assert loops.predict_function(command, NESTED, "int8_4_1", 4).cycles == 20
    assert loops.scheduling_model(command) == "N1"


@pytest.mark.parametrize(("name", "says"), [("empty", "no inner loop of empty"), ("none", "no function none")])
def test_a_function_without_a_loop_is_an_error(name, says):
    with pytest.raises(ValueError, match=says):
        loops.predict_function(["false"], NESTED, name, 1)


def test_a_refusal_of_llvm_mca_is_an_error():
    with pytest.raises(ValueError, match="false refused a loop"):
        loops.predict_function(["false"], NESTED, "int8_4_1", 1)


@pytest.mark.slow
@pytest.mark.long
def test_the_command_predicts_the_kernels():
    pytest.importorskip("ziglang")
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("", "exporters", "runtime"))
    result = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "arm_model.py"), "--json"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode == 2:
        pytest.skip(result.stderr)
    rows = json.loads(result.stdout)["rows"]
    assert {row["processor"] for row in rows} == {"Cortex-A53", "Cortex-A55", "Cortex-A72", "Cortex-A76"}
    assert not any(row["spills"] for row in rows)
    # No prediction is below the busiest unit's.
    assert all(row["lstm_cycles"] >= row["unit_cycles"] - 0.01 for row in rows)
