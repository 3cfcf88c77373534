"""`actions`: name an action and a still performs it (class-conditional keypoints; Kim et al., NeurIPS 2019)."""
