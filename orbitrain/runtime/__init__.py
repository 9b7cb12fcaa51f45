"""What turns pure machines into daemons: the asyncio driver, the clock, workers, configuration, telemetry."""
