"""The steps of a history: each draws what it does from a number of its own, and from how the world is by then.

So a history is a list of names and numbers that can be replayed with steps left out.
"""

from tests.support.history import of_keys, of_store
from tests.support.history.drawing import STEPS, let_time_pass

__all__ = ["STEPS", "let_time_pass", "of_keys", "of_store"]
