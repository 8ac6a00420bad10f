"""What the project claims, measured: utility, faces and rate of every codec over one set of
images.
"""
