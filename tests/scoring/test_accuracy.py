from spiritlm.scoring.accuracy import pair_win


def test_wins_losses_and_ties() -> None:
    pairs = [(1.0, 0.0), (2.0, 3.0), (3.0, 3.0 + 1e-9), (1.0, 0.5), (-1.0, -1.0 + 1e-5)]
    assert [pair_win(*pair) for pair in pairs] == [1, 0, 0.5, 1, 0]
