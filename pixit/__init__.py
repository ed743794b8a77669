"""pixit."""
