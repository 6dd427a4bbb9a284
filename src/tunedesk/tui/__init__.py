"""The Textual app."""

import os

# Textual paints at once after a rest, then at most so often; its 60 a second would let the second half of what a key
# does (the conversation beside the list) wait for up to 33 ms. Nothing is painted that did not change.
os.environ.setdefault("TEXTUAL_FPS", "200")
