"""The routes of the engine's server, a module for each resource."""
