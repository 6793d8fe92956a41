"""From one file to a fleet of devices: keys and signatures, deploys over SSH."""
