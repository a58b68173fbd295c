"""What this machine has, and one isolated, locked environment per server."""
