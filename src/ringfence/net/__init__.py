"""Floor 3: everything that opens a socket."""
