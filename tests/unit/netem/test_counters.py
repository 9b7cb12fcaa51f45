"""The kernel's text of what devices have counted."""

from __future__ import annotations

from netem.counters import DeviceCounters, dropped

TEXT = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1 2 3 4 5 6 7 8 9 10 11 99 13 14 15 16
orbit2:      100       2    0    4    0     0          0         0      200       3    0    7    0     0       0          0
orbit10:100 2 0 4 0 0 0 0 200 3 0 5 0 0 0 0
"""  # noqa: E501 - as the kernel writes it


def test_drops_of_devices_with_such_a_name_are_added_up() -> None:
    assert dropped(TEXT, "orbit") == 12
    assert dropped(TEXT, "orbit2") == 7
    assert dropped(TEXT, "wlan") == dropped("", "orbit") == 0


def test_this_namespace_has_a_file_of_them() -> None:
    counters = DeviceCounters()
    assert counters.drops("lo") >= 0 and counters.drops("lo") >= 0
    counters.close()
