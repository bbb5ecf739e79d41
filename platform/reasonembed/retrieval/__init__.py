"""Finding documents: BM25, exact dense search, their fusion, and the FAISS index that is served."""
