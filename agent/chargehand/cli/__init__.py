"""The command line: one file a command group, each imported when it is used."""
