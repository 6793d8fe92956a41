"""Train, export and quantize the policy of control_loop.c: ``python make_policy.py POLICY.onnx``.

The policy imitates a controller that knows the rod's speed. It sees the angle and its last torque only, so its GRU has
to estimate the speed.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import lstm_edge

RATE_HZ, ANGLE_SCALE = 200, 4.0


class Policy(nn.Module):
    """One step: observation [batch, 2] (angle in radians, last torque) and state h [batch, hidden]."""

    def __init__(self, hidden: int = 24) -> None:
        super().__init__()
        self.cell, self.torque = nn.GRUCell(2, hidden), nn.Linear(hidden, 1)
        self.register_buffer("scale", torch.tensor([ANGLE_SCALE, 1.0]))

    def forward(self, observation: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the torque [batch, 1] in -1 to 1 and the next state."""
        h = self.cell(observation * self.scale, h)
        return torch.tanh(self.torque(h)), h


def expert(angle: Tensor, speed: Tensor) -> Tensor:
    """Return the torque of a controller that knows the speed."""
    return torch.clamp(-4 * angle - 0.8 * speed, -1, 1)


def train(policy: Policy, updates: int, seed: int = 0) -> float:
    """Imitate the expert while the policy itself drives more and more; returns the last loss."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # more threads cost more than they give at this size
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    loss = torch.zeros(())
    for update in range(updates):
        angle, speed = 0.3 * torch.randn(32, 1), 0.5 * torch.randn(32, 1)
        torque, h, losses = torch.zeros(32, 1), torch.zeros(32, policy.cell.hidden_size), []
        for step in range(60):
            answer, h = policy(torch.cat([angle, torque], dim=1), h)
            wanted = expert(angle, speed)
            if step >= 3:  # the speed is unknown at first
                losses.append((answer - wanted).square().mean())
            own = torch.rand(32, 1) < update / updates
            torque = torch.where(own, answer.detach(), wanted) + 0.05 * torch.randn(32, 1)
            speed = speed + (9.81 * angle.sin() + 20 * torque.clamp(-1, 1)) / RATE_HZ
            speed = speed + 0.3 * torch.randn(32, 1) * (torch.rand(32, 1) < 0.01)
            angle = (angle + speed / RATE_HZ).clamp(-1, 1)
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return float(loss.detach())


def main(target: Path, updates: int = 120) -> None:
    """Write the int8 policy, and the float32 one beside it."""
    policy = Policy()
    print(f"loss {train(policy, updates):.4f}")
    float32 = target.with_suffix(".float32.onnx")
    example = {"observation": torch.zeros(2, 2), "h": torch.zeros(2, 24)}
    lstm_edge.export(policy.eval(), example, float32, output_names=["torque", "h_out"])
    lstm_edge.quantize(float32, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
