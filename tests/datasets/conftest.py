"""What the tests of downloads share."""

from tests.download_server import server

__all__ = ["server"]
