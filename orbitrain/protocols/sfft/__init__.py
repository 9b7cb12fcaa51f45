"""SFFT (arXiv 2504.10403): satellites tune the head of a foundation model whose backbone is on the ground.

Reconstructed from the abstract and public summaries. That an orbit's satellites form a ring, and that a
ring all-reduce speeds up both the broadcast of embeddings and the sum of heads, is the paper's; the
algorithms as they stand here, their times, the way between the planes and all rules for failures are our
derivation.
"""
