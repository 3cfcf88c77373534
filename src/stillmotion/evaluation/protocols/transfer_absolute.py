"""The protocol `transfer-absolute`: as `transfer`, with absolute keypoints."""

from __future__ import annotations

from stillmotion.evaluation.protocols.transfer import transfer_protocol

PROTOCOL = transfer_protocol("transfer-absolute", "absolute")
