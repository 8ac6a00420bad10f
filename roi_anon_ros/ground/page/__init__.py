"""The twin's page: a site from above in a browser, and clicks for calibration. Extra `twin`."""
