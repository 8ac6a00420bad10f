"""Real nodes in their own DDS domain: demo, load test, harness of the tests."""
