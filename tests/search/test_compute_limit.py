"""The default of --max-macs: from the images and the device alone, told with its reason."""

from search.study.compute_limit import default


def test_on_a_gpu_it_is_1g_for_32_pixels_and_goes_with_the_area() -> None:
    assert default(32, 10**6, on_cpu=False, smallest=1_000).macs == 10**9
    assert default(64, 10**6, on_cpu=False, smallest=1_000).macs == 4 * 10**9
    assert default(28, 10**6, on_cpu=False, smallest=1_000).macs == 770_000_000


def test_on_a_cpu_it_is_what_a_core_trains_in_a_minute() -> None:
    few = default(32, 5 * 3_000, on_cpu=True, smallest=1_000)
    assert few.macs == 27_000_000 and "a minute a trial" in few.reason
    assert 3 * few.macs * 15_000 / 60 <= 20.5e9


def test_on_a_cpu_it_never_starves_networks_nor_exceeds_that_of_a_gpu() -> None:
    many = default(32, 8 * 45_000, on_cpu=True, smallest=1_000)
    assert many.macs == 8_000_000 and "up to 7 minutes" in many.reason
    assert default(8, 10, on_cpu=True, smallest=1_000).macs == 62_000_000


def test_it_leaves_room_above_the_smallest_network_of_the_space() -> None:
    found = default(32, 10**6, on_cpu=True, smallest=50_000_000)
    assert found.macs == 100_000_000 and "smallest network" in found.reason
