import torch

from spiritlm.run.memory import Memories, Memory, after, block_mask, none_blind


def test_blocks_see_themselves_and_so_many_before() -> None:
    seen = block_mask(7, 2, 1, torch.device("cpu"))
    expected = [[abs(0) <= i // 2 - j // 2 <= 1 for j in range(7)] for i in range(7)]
    assert seen.tolist() == expected
    assert block_mask(7, 2, None, torch.device("cpu")).tolist() == [
        [j // 2 <= i // 2 for j in range(7)] for i in range(7)
    ]


def test_a_frame_that_sees_nothing_sees_itself() -> None:
    seen = torch.tensor([[True, False], [False, False]])
    assert none_blind(seen).tolist() == [[True, False], [False, True]]


def test_a_memory_keeps_the_latest_keys() -> None:
    memory, keys = Memory(most_keys=3), torch.arange(10.0).view(1, 1, 10, 1)
    for start in (0, 4, 8):
        piece = keys[:, :, start : start + 4]
        seen, _ = memory.extend(piece, piece)
        first = max(0, start - 3)
        assert seen.flatten().tolist() == list(range(first, min(10, start + 4)))


def test_pieces_are_convolved_as_the_whole() -> None:
    x, layer, memories = torch.randn(1, 3, 20), torch.nn.Conv1d(3, 3, 4), Memories()
    whole = layer(after(x, 3, None))
    pieces = [layer(after(piece, 3, memories[layer])) for piece in x.split([1, 7, 2, 10], dim=2)]
    torch.testing.assert_close(torch.cat(pieces, dim=2), whole)
