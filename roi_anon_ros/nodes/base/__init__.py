"""What every node here is made of: lifecycle, newest frames, diagnostics, image messages."""
