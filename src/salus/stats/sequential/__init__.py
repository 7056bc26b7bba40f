"""Tests and intervals that stay valid although they are looked at after every observation."""
