"""Real nodes in a DDS domain of their own: demo, load test, harness of the tests."""
