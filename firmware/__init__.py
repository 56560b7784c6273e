"""What the operating system needs around nvr: slots, first boot, updates, disks. Runs on the box, as root, in sandboxes (units/)."""
