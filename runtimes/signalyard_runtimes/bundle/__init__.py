"""Bundles as files: the manifest, its digest, finding and reading them. No numpy and no engine is imported here."""
