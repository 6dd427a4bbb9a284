"""tunedesk: the terminal workbench for fine-tuning chat models on conversations."""

__version__ = "0.1.0"
