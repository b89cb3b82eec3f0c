"""A gallery whose faces are searched by Milvus, on as many machines as it takes."""
