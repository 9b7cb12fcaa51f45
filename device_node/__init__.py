"""The device daemon: holds its region's model and trains it when a satellite opens a round."""
