"""The demonstration: two nodes on this machine, real work on real files, two failovers, a verdict."""
