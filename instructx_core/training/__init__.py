"""Training: five kinds of stage (autoencoder, language, generator, reading, editing) in one loop over `accelerate`."""
