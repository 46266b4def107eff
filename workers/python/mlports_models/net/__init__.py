"""Neural networks from scratch: layers, symbols as inputs, and how they learn. `neural_net` serves them."""
