"""The engine: an OpenAI-compatible fine-tuning server on the user's own machine."""
