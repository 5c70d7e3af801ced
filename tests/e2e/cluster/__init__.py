"""A cluster for the end-to-end tests. They know it as a KUBECONFIG and an image loader, and nothing else.

The one named by KUBECONFIG where it is set, a kind cluster where a Docker engine answers, else a real Kubernetes of our own
(:mod:`cluster.local`): control plane, kubelet, containerd and CoreDNS in namespaces of their own on this machine, without Docker
and without pulling an image.

    python -m cluster up | down | load ARCHIVE... | kubeconfig | status | run COMMAND... | api
"""
