"""Taking, running, finishing steps."""
