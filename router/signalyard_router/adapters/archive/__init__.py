"""Object stores, by obstore: S3, Google Cloud Storage, Azure Blob Storage, or a folder."""
