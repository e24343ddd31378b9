"""What Tasker is measured by; `make bench` runs it."""
