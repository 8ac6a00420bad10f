"""An attacker for each method: how much of the heads is left in what is sent?

A codec's encoder and decoder are trained together, so that a clean decoded image proves nothing
about what its packets still carry. Anybody who has the encoder can send images of his own and train
another network from what was sent back to the images, with all its weight on heads. This is that
network, its training, and the method that it makes: what it recovers is judged by the same
detectors as any other method. It begins with the image that every receiver sees and learns what to
change in it; from a model it gets the latent as well. Every method gets the same network after its
entry, the same number of steps and the same crops in the same order. A
face recogniser may take part in the training: another one then has to judge.
"""
