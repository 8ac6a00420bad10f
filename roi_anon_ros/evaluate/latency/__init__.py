"""How long encoding and decoding take: all methods take turns in one run, memory to memory.

An image is an array in memory before the clock starts, and what is sent is bytes in memory. In
each round every method
encodes and decodes once, in a new order, so that whatever else the machine does hits all of them
alike: quote the ratios to the reference method, and the milliseconds only with the machine they
were measured on.
"""
