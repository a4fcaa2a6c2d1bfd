"""Exponential moving averages of parts of a net."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from coterie.networks.teacher import Teacher


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.project = nn.Linear(3, 4), nn.Linear(4, 2)


def test_a_teacher_is_the_moving_average_that_torch_has() -> None:
    torch.manual_seed(0)
    net = Pair()
    teacher = Teacher(backbone=net.backbone, project=net.project)
    oracle = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    oracle.update_parameters(net)  # its first update is a copy
    for _ in range(4):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
        teacher.follow(net, 0.9)
        oracle.update_parameters(net)
    for own, theirs in zip(teacher.parameters(), oracle.module.parameters(), strict=True):
        torch.testing.assert_close(own, theirs)
        assert not own.requires_grad


def test_following_averages_parameters_only() -> None:
    torch.manual_seed(0)
    net = nn.Module()
    net.norm = nn.BatchNorm1d(4)
    teacher = Teacher(norm=net.norm)
    with torch.no_grad():
        net.norm.weight.fill_(3.0)
    net.norm(10 + torch.randn(9, 4))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    teacher.follow(net, 0.75)
    torch.testing.assert_close(teacher.norm.weight, torch.full((4,), 1.5))
    assert torch.equal(teacher.norm.running_mean, torch.zeros(4))
    assert int(teacher.norm.num_batches_tracked) == 0
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_teacher_stands_still_at_momentum_one() -> None:
    net = Pair()
    teacher = Teacher(backbone=net.backbone)
    before = [p.clone() for p in teacher.parameters()]
    with torch.no_grad():
        net.backbone.weight.fill_(5.0)
    teacher.follow(net, 1.0)
    assert all(torch.equal(p, old) for p, old in zip(teacher.parameters(), before, strict=True))


def test_a_teacher_that_takes_over_answers_for_the_net() -> None:
    torch.manual_seed(0)
    net = nn.Module()
    net.backbone, net.other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), nn.Linear(4, 2)
    teacher = Teacher(backbone=net.backbone)
    with torch.no_grad():
        net.backbone[0].weight.add_(1.0)
    teacher.backbone(torch.randn(9, 3))
    other = net.other.weight.clone()
    teacher.take_over(net)
    x = torch.randn(5, 3)
    teacher.eval()
    net.backbone.eval()
    assert torch.equal(net.backbone(x), teacher.backbone(x))
    assert torch.equal(net.other.weight, other)
    with torch.no_grad():
        net.backbone[0].weight.fill_(0.0)
    assert bool(teacher.backbone[0].weight.abs().sum() > 0)  # a copy, not the same weights


def test_without_statistics_the_nets_own_norms_keep_theirs() -> None:
    torch.manual_seed(0)
    net = nn.Module()
    net.backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    teacher = Teacher(backbone=net.backbone)
    with torch.no_grad():
        net.backbone[0].weight.add_(1.0)
    net.backbone(torch.randn(9, 3))
    mean = net.backbone[1].running_mean.clone()
    teacher.take_over(net, statistics=False)
    assert torch.equal(net.backbone[0].weight, teacher.backbone[0].weight)
    assert torch.equal(net.backbone[1].running_mean, mean)
    assert not torch.equal(teacher.backbone[1].running_mean, mean)
