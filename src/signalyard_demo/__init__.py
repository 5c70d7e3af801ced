"""The demonstration: the whole way from ticks to audited decisions, with both halves in processes of their own."""
