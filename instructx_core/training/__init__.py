"""Training: four kinds of stage (autoencoder, language, generator, editing) in one loop over `accelerate`."""
