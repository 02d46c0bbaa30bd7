import pytest

from spiritlm.engine.metering import SPIKE_WINDOW, Meter, Spikes


def test_a_meter_tells_rates_since_it_was_read_and_overall() -> None:
    meter = Meter(tokens_per_step=100, flops_per_token=1.0, ranks=1)
    meter.add(1.0, waited=0.5)
    meter.add(3.0, waited=0.5)
    assert meter.read() == {"tokens_per_second": 50.0, "data_wait_share": 0.25}
    meter.add(1.0, waited=0.0)
    assert meter.read() == {"tokens_per_second": 100.0, "data_wait_share": 0.0}
    assert meter.overall() == pytest.approx(60.0)
    assert Meter(100, 1.0, 1).overall() == 0.0


def test_a_spike_stands_six_deviations_above_the_last_losses() -> None:
    spikes = Spikes()
    assert [spikes.add(2.0 + (step % 2)) for step in range(SPIKE_WINDOW)] == [0.0] * SPIKE_WINDOW  # deviation 0.5
    assert spikes.add(5.4) == 0.0
    assert spikes.add(50.0) > 6
    assert Spikes().add(1e9) == 0.0
