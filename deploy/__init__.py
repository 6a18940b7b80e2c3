"""What a server needs besides the package."""
