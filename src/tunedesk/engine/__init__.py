"""The engine: an OpenAI-compatible fine-tuning server on the user's own machine."""

import logging

# It advises, when it is imported, to let it fetch code from the hub.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
