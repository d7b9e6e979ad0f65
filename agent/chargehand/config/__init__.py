"""The configuration: TOML files into typed, frozen settings. Standard library and msgspec only: the agent loads it."""
