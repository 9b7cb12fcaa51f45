"""The link emulator: it replays the contact plan on real packets. `python -m netem`."""
