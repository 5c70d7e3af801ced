"""gRPC: the Open Inference Protocol, predictions, health and reflection. Needs the extra ``grpc``.

grpcio has sockets and threads of its own, so nothing of this adapter runs in a simulated world; what it calls does.
"""
