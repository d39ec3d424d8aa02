"""The nodes, one file per stage of the graph, and their shared helpers. The maths is in the library."""
