"""The back end that needs no kernel module: packets cross user space between nodes' TUN devices."""
