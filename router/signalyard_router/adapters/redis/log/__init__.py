"""The log that replicas share, on Redis or Valkey: one connection of its own, and five short scripts."""
