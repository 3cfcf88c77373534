"""`structures`: a still follows a sequence of poses or facial expressions."""
