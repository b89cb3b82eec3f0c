"""How good are embeddings? The field's protocols and measures, with their uncertainty."""
