"""Controllers of others that some scenarios need, run on the cluster from the manifests that come with their sources."""
