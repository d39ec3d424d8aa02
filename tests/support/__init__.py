"""What the tests share: tiny models, video files, recorded numbers, servers."""
