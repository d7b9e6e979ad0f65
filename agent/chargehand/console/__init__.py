"""The console: a web page, REST and metrics, in a child of its own that the agent runs where configured."""
