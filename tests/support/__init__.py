"""What tests share: cases, models, files and the programs that they start."""
