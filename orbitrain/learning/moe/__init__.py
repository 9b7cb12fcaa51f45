"""Mixtures of experts: models whose parts are trained by different devices."""
