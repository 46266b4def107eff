"""A file many times larger than the memory that the process may have, grouped and summed by a flow."""
