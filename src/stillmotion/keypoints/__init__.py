"""Figures moved by keypoints: the detector, the dense motion and the fields that several systems share."""
