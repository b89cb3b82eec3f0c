"""The gradient of a batch in chunks and in several processes is the gradient of the batch."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn
from training_world import small_config

from sameface.training.gradients import backpropagate
from sameface.training.losses import ClassifierHead, combined_loss
from sameface.training.networks.inception import Network
from sameface.training.networks.resnet29 import load_resnet29
from sameface.training.networks.tables import Average, Conv, Embed, Inception, NetworkTable, Pool

TINY = NetworkTable(
    "tiny",
    24,
    24,
    (
        Conv("conv1", 8, 3, 2),
        Pool("pool1"),
        Inception("3a", 4, (4, 8), (2, 4), ("L2", 4)),
        Average("pool5"),
        Embed("fc"),
    ),
)
LABELS = torch.arange(12) // 3


def planes(seed=0, n=12, size=24):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def objective(rows, labels=LABELS):
    return combined_loss(rows, labels, small_config(margin=0.5, rule="batch-all"), step=0)


def network(norm, dtype=torch.float32):
    return Network(TINY, dimension=64, norm=norm, seed=1).to(dtype).train()


def gradients(net):
    return [parameter.grad.clone() for parameter in net.parameters()]


def in_one_graph(net, x, chunk, labels=LABELS):
    """Keep the graph of every chunk, and differentiate the plain way."""
    rows = torch.cat([net(part) for part in torch.split(x, chunk)])
    loss, _ = objective(rows, labels)
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("chunk", [5, 6, 12, 50])
def test_without_batch_statistics_any_chunk_gives_the_gradient_of_the_undivided_batch(chunk):
    ours, theirs = network("response"), network("response")
    loss, _ = backpropagate(ours, planes(), objective, chunk=chunk)
    expected = in_one_graph(theirs, planes(), 12)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients(ours), gradients(theirs), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("chunk", [5, 6, 12])
def test_with_batch_norm_the_gradient_is_that_of_all_chunks_kept_together(chunk):
    ours, theirs = network("batch"), network("batch")
    loss, _ = backpropagate(ours, planes(), objective, chunk=chunk)
    expected = in_one_graph(theirs, planes(), chunk)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients(ours), gradients(theirs), rtol=1e-4, atol=1e-6)


def test_running_statistics_move_once_a_step_however_many_passes_there_are():
    ours, theirs = network("batch"), network("batch")
    backpropagate(ours, planes(), objective, chunk=4)
    in_one_graph(theirs, planes(), 4)
    for one, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(one, other)
    assert any(buffer.abs().sum() > 0 for buffer in ours.buffers())


def test_the_shipped_network_has_the_same_gradient_in_chunks():
    x = planes(n=4, size=150)
    labels = torch.tensor([0, 0, 1, 1])
    ours, theirs = load_resnet29().train(), load_resnet29().train()
    backpropagate(ours, x, lambda rows: objective(rows, labels), chunk=3)
    in_one_graph(theirs, x, 4, labels)
    torch.testing.assert_close(gradients(ours), gradients(theirs), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("chunk", [3, 5])
def test_in_bfloat16_the_gradient_in_chunks_is_that_of_one_pass(chunk):
    found = []
    for size in (chunk, 0):
        net = network("response")
        with torch.autocast("cpu", torch.bfloat16):
            backpropagate(net, planes(), toward_targets, chunk=size)
        found.append(torch.cat([part.flatten() for part in gradients(net)]))
    ours, theirs = found
    # Each pass rounds its share of a weight's gradient to 8 bits.
    assert (ours - theirs).norm() <= 2**-6 * theirs.norm()


def toward_targets(rows):
    """Return a loss whose gradient does not depend on the rows, so that their rounding does not count."""
    targets = torch.randn(rows.shape, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", enabled=False):
        return (rows.float() * targets).sum(), None


@pytest.mark.parametrize("kind", ["softmax", "cosface"])
def test_a_head_learns_the_directions_of_the_people(kind):
    rows = torch.nn.functional.normalize(planes(n=12).flatten(1)[:, :64], dim=1).requires_grad_()
    head = ClassifierHead(4, 64, kind=kind, seed=0)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    before = head(rows, LABELS).item()
    for _ in range(30):
        optimizer.zero_grad()
        loss, _ = combined_loss(rows, LABELS, small_config(head=kind, head_steps=5), step=0, head=head)
        loss.backward()
        optimizer.step()
    assert head(rows, LABELS).item() < before / 2


def test_after_its_steps_the_head_is_out():
    rows = nn.functional.normalize(planes().flatten(1)[:, :64], dim=1)
    head = ClassifierHead(4, 64, kind="softmax", seed=0)
    config = small_config(head="softmax", head_steps=5)
    plain, _ = combined_loss(rows, LABELS, config, step=5)
    late, _ = combined_loss(rows, LABELS, config, step=5, head=head)
    early, _ = combined_loss(rows, LABELS, config, step=4, head=head)
    assert late == plain != early


def test_imitation_is_the_squared_distance_to_the_teacher_and_mixes_with_triplets():
    rows, targets = (nn.functional.normalize(planes(seed).flatten(1)[:, :64], dim=1) for seed in (1, 2))
    triplets, _ = combined_loss(rows, LABELS, small_config(), step=0)
    wanted = ((rows - targets) ** 2).sum(dim=1).mean()
    for weight in (1.0, 0.3):
        config = small_config(teacher="resnet29", teacher_weight=weight, dimension=128)
        loss, _ = combined_loss(rows, LABELS, config, step=0, targets=targets)
        torch.testing.assert_close(loss, weight * wanted + (1 - weight) * triplets)


def test_a_picture_that_could_not_be_read_does_not_count():
    rows = nn.functional.normalize(planes().flatten(1)[:, :64], dim=1)
    labels = LABELS.clone()
    labels[4] = -1
    keep = labels >= 0
    ours, theirs = (
        combined_loss(r, n, small_config(), step=0) for r, n in ((rows, labels), (rows[keep], labels[keep]))
    )
    assert ours == theirs


PROCESS = """
    import sys
    import torch
    sys.path.insert(0, {tests!r})
    from test_training_gradients import network, objective, planes, gradients
    from sameface.training.gradients import backpropagate
    from sameface.training.gradients import ProcessGroup, pick_device
    from sameface.training.sampler import share

    torch.set_num_threads(1)
    device = pick_device("cpu")
    group = ProcessGroup.join(device)
    mine = share(torch.arange(12).numpy(), group.rank, group.world)
    net = network({norm!r})
    loss, stats = backpropagate(net, planes()[mine], objective, chunk={chunk}, group=group)
    stop = group.any(flag=group.rank == 1, device=device)
    if group.rank == 0:
        torch.save([loss, gradients(net), stats.triplets, stop], {target!r})
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run_processes(code, world):
    port = str(free_port())
    running = []
    for rank in range(world):
        env = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        running.append(subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=env))
    assert [process.wait(timeout=120) for process in running] == [0] * world


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["response", "batch"])
def test_two_processes_have_the_loss_and_gradient_of_one_with_the_whole_batch(tmp_path, norm):
    target = str(tmp_path / "found.pt")
    # With batch norm each process normalises its six pictures, as one process does in chunks of six.
    run_processes(PROCESS.format(tests=str(Path(__file__).parent), norm=norm, chunk=0, target=target), world=2)
    loss, found, triplets, stop = torch.load(target)
    alone = network(norm)
    expected, stats = backpropagate(alone, planes(), objective, chunk=6 if norm == "batch" else 0)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found, gradients(alone), rtol=1e-4, atol=1e-6)
    assert triplets == stats.triplets > 0
    assert stop
