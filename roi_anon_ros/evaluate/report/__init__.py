"""Results for people: tables, curves, sheets of images, and one page of all."""
