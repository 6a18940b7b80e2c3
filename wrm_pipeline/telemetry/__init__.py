"""What a run tells about itself: log lines, spans and figures; none of it decides what the run does."""
