"""Rotations under load, with real programs: nobody valid is refused, windows end on time, safe-to-retire is right."""
