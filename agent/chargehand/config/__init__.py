"""The configuration: TOML files into typed, frozen settings."""
