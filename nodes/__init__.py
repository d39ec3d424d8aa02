"""The nodes: one file per station of the graph, and what several stations share. Math lives in the library."""
