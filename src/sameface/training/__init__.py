"""Train an embedder of your own: FaceNet's networks, triplets and loop. Needs the extra `train`."""
