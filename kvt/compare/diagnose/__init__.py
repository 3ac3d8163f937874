"""Which cause makes your port differ from Keras: found by experiment, and proven."""
