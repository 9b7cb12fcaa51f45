"""The link emulator: it will replay the contact plan on real packets."""
