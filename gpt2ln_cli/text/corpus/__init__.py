"""From the sources of a corpus to shards, documents and windows."""
