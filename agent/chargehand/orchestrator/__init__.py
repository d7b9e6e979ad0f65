"""The lease holder's loop around the director."""
