"""The simulator: a fleet on a virtual clock, driven by the real router and the real controller.

`simulate` in ``run.py`` runs one scenario under one setting; ``compare.py`` puts settings side by side.
"""
