"""What a run leaves behind: times, bytes, memory, and the files of its folder."""
