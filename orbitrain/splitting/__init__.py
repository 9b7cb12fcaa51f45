"""Splitting: which cluster of devices owns which expert of a mixture, anew in every split epoch.

Algorithm 1 of EMS-FL (arXiv 2602.19485). We had the paper's words, not its formulas: (29), (32) and (33) are
forced by them, the rule by which clusters are served first is ours, as are all edge cases; docs/splitting.md
says which is which.

Import the modules, not this package. scipy is loaded by the first split that needs a matching, never by an
import.
"""
