"""Which conversations belong together: duplicates, leak-free splits, topics."""
