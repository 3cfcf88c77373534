"""Motion strokes: a still follows a drawn line, one point per frame."""
