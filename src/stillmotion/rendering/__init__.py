"""From motion to pictures, the same for every system: fields, the still's figure, what lies behind it, full size."""
