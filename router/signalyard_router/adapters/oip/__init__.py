"""The way to the model servers: the inference profile over HTTP/1.1."""
