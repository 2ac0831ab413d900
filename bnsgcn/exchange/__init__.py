"""How halo rows travel: drawn, packed, in flight, stale, smoothed."""
