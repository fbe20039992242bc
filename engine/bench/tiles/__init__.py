"""What pictures of a world of tiles show: its tiles read back, and who plays by pictures alone."""
