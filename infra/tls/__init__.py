"""A private certificate authority for services that no public one knows."""
