"""What a training step is compared with: the passes that it contains, recorded and done again."""

from __future__ import annotations

from collections import Counter

import torch

from coterie.running.prepared import Watch
from coterie.running.preparing import prepare
from coterie.training.plan import RunSettings


def test_a_step_s_passes_are_recorded_and_done_again() -> None:
    import steps
    from speed import pixels

    chosen = {"backbone": "small-4", "precision": "fp32", "calibrate": False, "device": "cpu"}
    settings = RunSettings(3, "moco", epochs=2, overrides={"moco.batch_size": 16, "moco.queue": 32}, **chosen)
    prepared = prepare(pixels(64, 8, 1), settings, None, resume=False, watch=Watch())
    net = steps.untrained(prepared)
    recorder = steps.Recorder(net)
    steps.train(prepared, net, recorder)
    assert len(recorder.kept) == 4  # steps of an epoch, of the last one

    # Two views through the net that learns, two through its teacher, from which nothing comes back.
    calls = recorder.kept[1]
    assert Counter(call.part for call in calls) == Counter(
        {"backbone": 2, "project": 2, "teacher.backbone": 2, "teacher.project": 2}
    )
    assert {call.part for call in calls if call.returned} == {"backbone", "project"}
    assert all(call.returned == call.with_gradient for call in calls)
    assert all(call.training for call in calls)

    again = steps.untrained(prepared).train()
    seen: Counter[str] = Counter()
    back: Counter[str] = Counter()
    for name in {call.part for call in calls}:
        part = again.get_submodule(name)
        part.register_forward_hook(lambda *_, name=name: seen.update([name]))
        for p in part.parameters():
            if p.requires_grad:
                p.register_post_accumulate_grad_hook(lambda _, name=name: back.update([name]))
    steps.replay(again, calls)
    assert seen == Counter(call.part for call in calls)
    assert set(back) == {"backbone", "project"}
    assert all(p.grad is None or not torch.any(p.grad) for p in again.parameters())
