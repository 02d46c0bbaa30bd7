import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.engine.attention import documents_of, piece_bounds


@st.composite
def packed_rows(draw: st.DrawFn) -> tuple[list[np.ndarray], int]:
    """Rows of one length, cut anywhere into documents, and a number of context-parallel ranks."""
    ranks = draw(st.sampled_from([1, 2, 4]))
    length = 2 * ranks * draw(st.integers(1, 6))
    cuts = st.sets(st.integers(1, length - 1)) if length > 1 else st.just(set())
    rows = [np.array([0, *sorted(draw(cuts)), length], dtype=np.int32) for _ in range(draw(st.integers(1, 3)))]
    return rows, ranks


@given(packed_rows())
def test_ranks_hold_every_position_once(rows_ranks: tuple[list[np.ndarray], int]) -> None:
    rows, ranks = rows_ranks
    length = int(rows[0][-1])
    held = [position for rank in range(ranks) for bounds in piece_bounds(length, rank, ranks) for position in
            range(*bounds)]  # fmt: skip
    assert sorted(held) == list(range(length))


@given(packed_rows())
def test_masks_and_kernel_lengths_tell_the_same(rows_ranks: tuple[list[np.ndarray], int]) -> None:
    rows, ranks = rows_ranks
    length = int(rows[0][-1])
    for rank in range(ranks):
        documents = documents_of(rows, rank, ranks)
        seen = torch.zeros(len(rows), documents.mask.shape[2], length, dtype=torch.bool)
        first = 0
        for piece in documents.pieces:
            queries, keys = piece.cu_queries.diff().tolist(), piece.cu_keys.diff().tolist()
            assert (max(queries), max(keys)) == (piece.longest_queries, piece.longest_keys)
            size, row, q, k = piece.end - piece.begin, 0, 0, 0
            for number, of_document in zip(queries, keys, strict=True):  # as the kernel reads them
                for query in range(number):
                    seen[row, first + q + query, k : k + of_document - number + query + 1] = True
                q, k = q + number, k + of_document
                if k == piece.end:
                    assert q == size
                    row, q, k = row + 1, 0, 0
            assert row == len(rows)
            first += size
        assert torch.equal(seen, documents.mask[:, 0])


def test_a_document_is_attended_as_if_it_stood_alone() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 12, 4).unbind(0)
    documents = documents_of([np.array([0, 5, 6, 12], dtype=np.int32)])
    packed = F.scaled_dot_product_attention(q, k, v, attn_mask=documents.mask)
    for begin, end in ((0, 5), (5, 6), (6, 12)):
        alone = F.scaled_dot_product_attention(*(x[..., begin:end, :] for x in (q, k, v)), is_causal=True)
        torch.testing.assert_close(packed[..., begin:end, :], alone)


def test_the_mask_is_made_once() -> None:
    documents = documents_of([np.array([0, 4], dtype=np.int32)])
    assert documents.mask is documents.mask
    assert documents.max_seqlen_q == pytest.approx(4)
