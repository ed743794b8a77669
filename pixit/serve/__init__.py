"""pixit behind a server."""
