"""Where things lie in S3 and how they are read and written."""
