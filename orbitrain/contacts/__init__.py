"""Contacts: who can talk to whom, when, how far and how fast, computed ahead from orbits.

Import the modules, not this package: daemons need only `contacts.plan` and `contacts.serving` (standard
library), and must not pay for numpy, sgp4 and skyfield, which `elements`, `geometry`, `finder` and `builder`
load.
"""
