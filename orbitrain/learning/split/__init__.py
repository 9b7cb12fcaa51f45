"""A model in three pieces: embedding and head on satellites, backbone on the ground (arXiv 2504.10403)."""
