"""Secrets of a run from HashiCorp Vault or OpenBao: the client, wrapped secret ids, and what a run reads."""
