"""Save checkpoints of made-up parameters, which the ranks of a TLP group hold in pieces.

shards.py FOLDER R    R: ranks per TLP. Prints what became of each save, as JSON.
"""

import json
import resource
import signal
import sys
import weakref
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from metatlp.engine.mesh import build_mesh
from metatlp.engine.parameters.gather import CHUNK, assemble, owners
from metatlp.engine.parameters.pieces import Piece, Pieces
from metatlp.engine.parameters.saving import save_pieces
from metatlp.engine.placement import start
from metatlp.errors import InputError

SHAPES = {
    "encoder.embedding": torch.Size([37, 8]),
    "encoder.weight": torch.Size([5, 7]),
    "encoder.bias": torch.Size([5]),
    "encoder.none": torch.Size([0, 3]),
    "head.scale": torch.Size([]),
    "head.weight": torch.Size([3, 11]),
}
# Of two chunks, of one and a bit, and of less.
LARGE = {f"large.{i}": torch.Size([2, CHUNK]) for i in range(3)}
LARGE |= {"large.odd": torch.Size([CHUNK + 5]), "small": torch.Size([CHUNK // 2])}
KINDS = ("theta", "exp_avg")
STATE = {"cursors": {"pos_hi": 3}}
STEPS = {"inner_steps": {"steps": torch.tensor([4, 5])}}
# Where all parameters in a row are cut: uneven; one of four ranks holds nothing at all.
CUTS = {1: (0, 1), 2: (0, 0.3, 1), 3: (0, 0.05, 0.6, 1), 4: (0, 0.5, 0.5, 0.9, 1)}
PADDING = 3


def whole(kind, shapes=SHAPES):
    """Any bits: NaNs of every kind, denormal numbers, and -0.0."""
    generator = torch.Generator().manual_seed(len(kind))
    named = {}
    for name, shape in shapes.items():
        bits = torch.randint(-(2**31), 2**31, (shape.numel(),), generator=generator)
        bits[:3] = torch.tensor([-(2**31), 0x7FA00001, -0x3EDCBB])[: len(bits)]
        named[name] = bits.int().view(torch.float32).view(shape)
    return named


def cut(ranks, member, shapes=SHAPES):
    """What a member holds, with padding before each piece."""
    total = sum(shape.numel() for shape in shapes.values())
    low, high = (int(total * share) for share in CUTS[ranks][member : member + 2])
    own, offset, start = [], PADDING, 0
    for name, shape in shapes.items():
        begin, end = max(low - start, 0), min(high - start, shape.numel())
        if begin < end:
            own.append(Piece(name, shape, begin, end, offset))
            offset += end - begin + PADDING
        start += shape.numel()
    return Pieces(dict(shapes), own)


def flat(named, pieces):
    """A member's vector; its padding is no number."""
    vector = torch.full((sum(p.end - p.begin + PADDING for p in pieces.own) + PADDING,), torch.nan)
    for piece in pieces.own:
        vector[piece.span] = named[piece.name].flatten()[piece.begin : piece.end]
    return vector


@contextmanager
def full_disk(here, size):
    """A limit on the size of files stands for it: writing fails in the same places."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if here:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Living(TorchDispatchMode):
    """Counts the bytes of the tensors that are made inside and still there, views left out."""

    def __init__(self, before):
        super().__init__()
        self.now = self.peak = 0
        self._seen = weakref.WeakSet([before.untyped_storage()])

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.untyped_storage() not in self._seen:
            storage = result.untyped_storage()
            self._seen.add(storage)
            weakref.finalize(storage, self._add, -storage.nbytes())
            self._add(storage.nbytes())
        return result

    def _add(self, size):
        self.now += size
        self.peak = max(self.peak, self.now)


def assembled(mesh):
    """Bytes that assembling large parameters took at most, and those of what it gave."""
    pieces = cut(mesh.ranks_per_tlp, mesh.member, LARGE)
    expected = whole("large", LARGE)
    vector = flat(expected, pieces)
    with Living(vector) as living:
        found = assemble(mesh, pieces, vector, torch.device("cpu"))
    chosen = owners(LARGE, mesh.ranks_per_tlp)
    assert list(found) == [name for name in chosen if chosen[name] == mesh.member]
    for name, tensor in found.items():
        assert torch.equal(tensor.view(torch.int32), expected[name].view(torch.int32))
    return living.peak, sum(tensor.nbytes for tensor in found.values())


def main(folder, ranks):
    placement = start("none", "")
    mesh = build_mesh(placement.rank, placement.world, ranks, placement.device)
    pieces = cut(ranks, mesh.member)
    vectors = {kind: flat(whole(kind), pieces) for kind in KINDS}
    if mesh.group:  # theirs are not asked for
        vectors = {kind: torch.full_like(vector, 7.0) for kind, vector in vectors.items()}

    def save(step, folder=folder, **state):
        try:
            return str(
                save_pieces(
                    placement, mesh, pieces, vectors, folder, step, STATE | state, STEPS, keep=2
                )
            )
        except InputError as error:
            return str(error)

    last, elsewhere = mesh.group == 0 and mesh.member == ranks - 1, folder.parent / "elsewhere"
    said = [save(2)]
    with full_disk(last, 100):
        said.append(save(3))
    with full_disk(placement.is_main, 20_000):
        said.append(save(3, long=list(range(10_000))))
    (folder.parent / "file").touch()
    said.append(save(3, folder.parent / "file" / "checkpoints"))
    said.append(save(3, elsewhere if last else folder))
    if last:
        (elsewhere / ".step_000003.partial").mkdir(parents=True)
    said.append(save(3, elsewhere if last else folder))
    said.append(save(4))
    print(json.dumps({"said": said, "assembled": assembled(mesh)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
