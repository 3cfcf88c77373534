"""How the strokes system learns: one step at a time."""
