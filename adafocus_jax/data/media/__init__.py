"""One video on disk becomes frames: files, folders of frames, volumes."""
