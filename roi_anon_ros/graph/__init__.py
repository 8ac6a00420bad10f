"""Real nodes in a DDS domain of their own: the demo, the load test, and the harness of the tests."""
