"""Front ends: features of samples that the file computes itself, as a strided convolution with fixed weights.

``request.py`` reads ``log-mel:40,rate=16000``, ``tables.py`` has the weights, ``features.py`` the definition in NumPy,
``graph.py`` the nodes and ``attach.py`` puts them in front of a captured model and proves them. May import
``onnx_graph``, ``verify`` and the runtime; never torch.
"""
