"""Mixtures of experts whose experts are trained apart: parts, the user's interface, a reference, the jobs."""
