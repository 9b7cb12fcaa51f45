"""Runs of EMS-FL and of what it is compared with, in virtual time: see bench/emsfl.py."""
