"""Still pictures into video under a person's direction."""
